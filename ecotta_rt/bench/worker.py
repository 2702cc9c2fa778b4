"""The measured process: it reads a case and answers in lines of JSON.

    stdin, first line        a case
    stdout                   {"parameters": P}                  parameters of the source network
                             {"frames": n, "wrong": k}          n frames done, k of them wrong
                             {"row": {...}}                     done; the row without `fits`, which the parent knows

    stdout, of a stream      the same, but of answers: row["answers"], see `told_answers`, in place of the errors

    stdout, of one that is timed   {"ready": {"normalisation": ..., "session_options": {...}}}, after a step to warm up
    stdin, for each turn           {"steps": n, "untimed": k}
    stdout                         {"step_ms": [...], "process_peak_bytes": p}
    stdin closed                   the end

The process is small until it imports torch or, for onnx, onnxruntime alone, and measures itself: nobody else sees its
peak at the right moments. Each figure is read at the one moment when it means what its name says:

    libraries, data opened      -> process_baseline_bytes
    network and method, or      -> load_peak_bytes, then the peak is reset
        sessions and state
    the stream                  -> error, ms_per_frame, process_peak_bytes
    afterwards                  -> forward_ms_per_frame, activation_bytes, step_peak_bytes: their cost is in no figure
"""

import gc
import json
import os
import sys
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from itertools import cycle
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ecotta_rt.bench.allocator import describe_allocator, keep_freed_memory
from ecotta_rt.bench.case import Case
from ecotta_rt.bench.memory_cage import leave_cage
from ecotta_rt.bench.parent import Tell, answer_parent
from ecotta_rt.bench.recording import Recording, cut_batches, told_answers
from ecotta_rt.errors import Unavailable, UsageError
from ecotta_rt.machine.process_memory import peak_resident_bytes, reset_peak, resident_bytes

__all__ = ["MeasuredStep", "main"]

_TOLD_EVERY_S = 0.5
_MOST_BATCHES = 4  # of one that is timed, held ready


class MeasuredStep(Protocol):
    """A method that was built, and what a row says of it.

    Attributes:
        name: What it calls itself.
        normalisation: Statistics its norms use.
        classes: Logits a frame.
        parameters: Of the source network; None where it does not know.
        trainable_parameters: Scalars it may change.
        session_options: How it is run.
    """

    name: str
    normalisation: str
    classes: int
    parameters: int | None
    trainable_parameters: int
    session_options: Mapping[str, str | int | float]

    def prepare(self, frames: NDArray[np.uint8], /) -> Any:
        """Frames `[N, H, W, 3]` as the step wants them; not timed."""

    def __call__(self, prepared: Any, /) -> Any:
        """Answer, then learn; timed."""

    def labels(self, answer: Any, /) -> NDArray[np.int64]:
        """A label for each frame, from what a call returned."""

    def begin_corruption(self, corruption: str, /) -> None:
        """Hear that the stream changes corruption."""

    @property
    def teach(self) -> Callable[[NDArray[np.int64]], None] | None:
        """Takes the true labels of the frames just answered; None for all methods but those that declare it."""

    def memory(self, prepared: Any, /) -> tuple[int, int]:
        """activation_bytes and step_peak_bytes of a step on these frames."""


def main() -> int:
    """Run the case on stdin; returns the exit code."""
    return answer_parent(_work)


def _work(tell: Tell) -> None:
    case = Case.from_json(sys.stdin.readline())
    engine = _engine(case.engine)
    if case.timed:
        _take_turns(case, engine, tell)
    else:
        tell({"row": _measure(case, engine, tell)})


def _engine(name: str) -> Any:
    """The module that builds a `MeasuredStep` (`open_step`), after `begin`, and times inference (`forward_ms`)."""
    if name == "onnx":
        from ecotta_rt.bench import onnx_engine  # no torch anywhere below

        return onnx_engine
    from ecotta_rt.bench.peers import torch_engine  # torch comes in here, after the case has been understood

    return torch_engine


def _measure(case: Case, engine: Any, tell: Tell) -> dict[str, Any]:
    """The fields of a `Row`, `fits` left out."""
    recording = Recording(case.recording)
    engine.begin(case)
    gc.collect()
    baseline = resident_bytes()

    step: MeasuredStep = engine.open_step(case, recording.frames(0, 0))
    if recording.labels.max() >= step.classes:
        raise UsageError(
            f"the stream has labels up to {recording.labels.max()}, and the network {step.classes} classes"
        )
    if step.parameters is not None:
        tell({"parameters": step.parameters})
    load_peak = peak_resident_bytes()
    reset_peak()
    play = _play_stream if case.stream else _play
    played = play(step, recording, case.batch, tell)
    process_peak = peak_resident_bytes()

    if case.way_out is not None:  # what follows is not the method's, and must not be its end
        leave_cage(case.way_out)
    keep_freed_memory()
    prepared = step.prepare(_example(recording, case))
    forward_ms, parameters = engine.forward_ms(case, prepared)
    if parameters is not None:
        tell({"parameters": parameters})
    activation, step_peak = step.memory(prepared)
    return {
        "method": step.name,
        "engine": case.engine,
        "batch": case.batch,
        "normalisation": step.normalisation,
        **played,
        "activation_bytes": activation,
        "step_peak_bytes": step_peak,
        "process_baseline_bytes": baseline,
        "load_peak_bytes": load_peak,
        "process_peak_bytes": process_peak,
        "forward_ms_per_frame": forward_ms,
        "trainable_parameters": step.trainable_parameters,
        "session_options": {**step.session_options, "allocator": describe_allocator(os.environ)},
    }


def _play(step: MeasuredStep, recording: Recording, batch: int, tell: Tell) -> dict[str, Any]:
    """Play every frame once, in order: the fields of a row that follow from answers and times."""
    wrong: dict[str, int] = {}
    times: list[tuple[float, int]] = []  # milliseconds, frames
    for span in recording.spans:
        step.begin_corruption(span.corruption)
        wrong[span.corruption] = 0
        for piece in cut_batches(span, batch):
            prepared = step.prepare(recording.frames(piece.start, piece.stop))
            answer, ms = _timed(step, prepared, recording.labels[piece.start : piece.stop])
            times.append((ms, piece.stop - piece.start))
            wrong[span.corruption] += int((step.labels(answer) != recording.labels[piece.start : piece.stop]).sum())
            tell({"frames": piece.stop, "wrong": sum(wrong.values())})
    counted = times[1:] or times  # the first batch warms the caches
    frames = len(recording.labels)
    return {
        "frames": frames,
        "error_percent": 100 * sum(wrong.values()) / frames,
        "errors": {
            span.corruption: 100 * wrong[span.corruption] / (span.stop - span.start) for span in recording.spans
        },
        "ms_per_frame": sum(ms for ms, _ in counted) / sum(count for _, count in counted),
    }


def _example(recording: Recording, case: Case) -> NDArray[np.uint8]:
    """A batch to measure a step on, of those that were played."""
    if case.stream:
        return next(_batches(recording, case.batch))[1]
    example = next(cut_batches(recording.spans[-1], case.batch))
    return recording.frames(example.start, example.stop)


def _play_stream(step: MeasuredStep, recording: Recording, batch: int, tell: Tell) -> dict[str, Any]:
    """Play every frame once, in order, in whole batches: a camera does not say where something changes.

    Returns:
        The fields of a row that follow from answers and times.
    """
    labels, starts = recording.labels, [span.start for span in recording.spans]
    answers: dict[str, NDArray[np.int16]] = {}
    wrong, spent_s, first_s, told_s = 0, 0.0, 0.0, time.monotonic()
    for place, frames in _batches(recording, batch):
        stop = min(place + batch, len(labels))
        for span in recording.spans[bisect_left(starts, place) : bisect_left(starts, stop)]:
            step.begin_corruption(span.corruption)
        prepared = step.prepare(frames)
        answer, took_ms = _timed(step, prepared, _filled_up(labels[place:stop], batch))
        took_s = took_ms / 1e3
        spent_s += took_s
        first_s = first_s or took_s
        for name, given in _by_name(step, answer).items():
            if name not in answers:
                answers[name] = np.zeros(len(labels), np.int16)
            answers[name][place:stop] = given[: stop - place]
        now_s = time.monotonic()
        if now_s - told_s > _TOLD_EVERY_S:
            told_s = now_s
            wrong = int(((labels != answers["unfiltered"]) & (labels >= 0))[:stop].sum())
            tell({"frames": stop, "wrong": wrong})
    counted = len(labels) - (batch if len(labels) > batch else 0)  # the first batch warms the caches
    spent_s -= first_s if len(labels) > batch else 0.0
    return {
        "frames": len(labels),
        "answers": {name: told_answers(given) for name, given in answers.items()},
        "ms_per_frame": 1e3 * spent_s / counted,
    }


def _batches(recording: Recording, batch: int) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Where each begins, and its frames; the last is filled up from the beginning, and that is not counted."""
    count = len(recording.labels)
    for start in range(0, count, batch):
        frames = recording.frames(start, min(start + batch, count))
        while len(frames) < batch:
            frames = np.concatenate([frames, recording.frames(0, min(batch - len(frames), count))])
        yield start, frames


def _filled_up(labels: NDArray[np.int64], batch: int) -> NDArray[np.int64]:
    """With no label for the frames that fill up a batch."""
    return np.concatenate([labels, np.full(batch - len(labels), -1)])


def _by_name(step: MeasuredStep, answer: Any) -> Mapping[str, NDArray[np.int64]]:
    """The answers of a step: `unfiltered`, which every method has, and what else it says."""
    several = getattr(step, "answers", None)
    return {"unfiltered": step.labels(answer)} if several is None else several(answer)


def _take_turns(case: Case, engine: Any, tell: Tell) -> None:
    engine.begin(case)
    keep_freed_memory()
    recording = Recording(case.recording)
    count = min(_MOST_BATCHES, len(recording.labels) // case.batch)
    batches = [recording.frames(i * case.batch, (i + 1) * case.batch) for i in range(count)]
    step: MeasuredStep = engine.open_step(case, batches[0])
    waiting = cycle([step.prepare(batch) for batch in batches])
    step(next(waiting))
    _reset_peak()
    tell({"ready": {"normalisation": step.normalisation, "session_options": step.session_options}})
    for line in sys.stdin:
        order = json.loads(line)
        for _ in range(order["untimed"]):
            step(next(waiting))
        step_ms = [_timed(step, next(waiting))[1] for _ in range(order["steps"])]
        tell({"step_ms": step_ms, "process_peak_bytes": _peak_bytes()})


def _timed(step: MeasuredStep, prepared: Any, labels: NDArray[np.int64] | None = None) -> tuple[Any, float]:
    """What the step answers, and the milliseconds it took; labels go to who learns from them, after the answer."""
    start = time.perf_counter()
    answer = step(prepared)
    if labels is not None and step.teach is not None:
        step.teach(labels)
    return answer, 1e3 * (time.perf_counter() - start)


def _reset_peak() -> None:
    try:
        reset_peak()
    except Unavailable:  # times can be had everywhere, memory on Linux
        return


def _peak_bytes() -> int | None:
    try:
        return peak_resident_bytes()
    except Unavailable:
        return None


if __name__ == "__main__":
    sys.exit(main())
