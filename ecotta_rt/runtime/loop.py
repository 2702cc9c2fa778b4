"""Source -> preprocess -> batches -> network -> sink, and nothing else.

What can go wrong with one frame is counted and told, and the stream goes on. Everything around it, saving the state or
showing progress, listens to the tally after each batch.
"""

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from ecotta_rt.errors import BadFrames, EcottaError, UsageError
from ecotta_rt.records import Frame, Prediction
from ecotta_rt.runtime.clock import Clock, SystemClock
from ecotta_rt.runtime.preprocess import Fit, preprocess
from ecotta_rt.runtime.sinks import Answer, Sink
from ecotta_rt.runtime.sources.source import Item, Refusal, Source

__all__ = ["Engine", "Loop", "LoopOptions", "Tally"]


class Engine(Protocol):
    """What the loop needs of a network that adapts.

    Attributes:
        frame_size: Height and width of its frames, in pixels.
        batch: Frames that every call must have.
        class_names: By class; empty where nobody named them.
    """

    @property
    def frame_size(self) -> tuple[int, int]: ...

    @property
    def batch(self) -> int: ...

    @property
    def class_names(self) -> tuple[str, ...]: ...

    def __call__(self, frames: NDArray[np.uint8]) -> Prediction:
        """Answer, then learn from `frames`, uint8 `[batch, height, width, 3]` RGB."""

    def predict(self, frames: NDArray[np.uint8]) -> Prediction:
        """Answer only."""


@dataclass(frozen=True)
class LoopOptions:
    """How to run.

    Attributes:
        adapt_every: Learn from each n-th batch, answer the others only; 0: never learn.
        limit: Frames to take from the source, refused ones included; None: all.
        fit: How frames of another shape are made to fit.

    Raises:
        UsageError: A number out of range.
    """

    adapt_every: int = 1
    limit: int | None = None
    fit: Fit = "cover"

    def __post_init__(self) -> None:
        if self.adapt_every < 0:
            raise UsageError(f"adapt every {self.adapt_every}: give 1 for each batch, n for each n-th, 0 for none")
        if self.limit is not None and self.limit < 1:
            raise UsageError(f"limit {self.limit}: give a number of frames from 1")


@dataclass
class Tally:
    """Counts of a run so far.

    Attributes:
        frames: Frames answered.
        refused: Frames that could not be used.
        dropped: Frames that a newer one replaced.
        offered: Batches given to learn from.
        adapted: Batches that moved the state's parameters.
        labelled: Answered frames whose class the source knows.
        correct: Those of them answered with that class.
        latency_ms: Sum over the answered frames.
    """

    frames: int = 0
    refused: int = 0
    dropped: int = 0
    offered: int = 0
    adapted: int = 0
    labelled: int = 0
    correct: int = 0
    latency_ms: float = 0.0

    def __str__(self) -> str:
        text = f"{self.frames} frames, {self.dropped} dropped, {self.refused} refused, {self.adapted} updates"
        if self.frames:
            text += f", mean latency {self.latency_ms / self.frames:.1f} ms"
        if self.labelled:
            text += f", error {100 * (1 - self.correct / self.labelled):.1f} %"
        return text


class _Ready(NamedTuple):
    frame: Frame
    pixels: NDArray[np.uint8]  # [height, width, 3], of the network's size


class Loop:
    """One run over one source.

    Args:
        source: Where frames come from; closed when the run ends.
        engine: Answers them.
        sink: Where the answers go.
        options: How to run.
        clock: The one that the source dates its frames with.
        after_batch: Called with the tally after each batch.

    Attributes:
        tally: Counts so far.
    """

    def __init__(
        self,
        source: Source,
        engine: Engine,
        sink: Sink,
        options: LoopOptions | None = None,
        *,
        clock: Clock | None = None,
        after_batch: Sequence[Callable[[Tally], None]] = (),
    ) -> None:
        self.tally = Tally()
        self._source = source
        self._engine = engine
        self._sink = sink
        self._options = options or LoopOptions()
        self._clock = clock or SystemClock()
        self._after_batch = after_batch
        self._whole_batches = 0
        self._stopping = False

    def run(self) -> Tally:
        """Run to the end of the source, the limit, or `stop`.

        Returns:
            The tally.

        Raises:
            EcottaError: The source, the engine or the sink ended the run. Where it was the source, the frames that it
                had given are answered first.
            BrokenPipeError: Nobody reads the sink any more.
        """
        try:
            with closing(iter(self._source)) as items:
                for batch in self._batches(items):
                    self._answer(batch)
                    for listener in self._after_batch:
                        listener(self.tally)
        finally:
            self.tally.dropped = self._source.dropped
        return self.tally

    def stop(self) -> None:
        """End the run after the batch in progress; may be called from a signal handler or another thread."""
        if not self._stopping:
            self._stopping = True
            self._source.close()

    def _batches(self, items: Generator[Item, None, None]) -> Generator[list[_Ready], None, None]:
        """Whole batches, and what is left when the frames end, for whatever reason."""
        waiting: list[_Ready] = []
        failure: EcottaError | None = None
        try:
            for item in islice(items, self._options.limit):
                ready = self._prepare(item)
                if ready is not None:
                    waiting.append(ready)
                if len(waiting) == self._engine.batch:
                    yield waiting
                    waiting = []
                if self._stopping:
                    break
        except EcottaError as error:
            failure = error
        if waiting:
            yield waiting
        if failure is not None:
            raise failure

    def _prepare(self, item: Item) -> _Ready | None:
        if isinstance(item, Refusal):
            self._refuse(item)
            return None
        try:
            return _Ready(item, preprocess(item.pixels, self._engine.frame_size, self._options.fit))
        except BadFrames as error:
            self._refuse(Refusal(item.index, item.name, str(error)))
            return None

    def _answer(self, batch: list[_Ready]) -> None:
        try:
            prediction = self._ask(batch)
        except BadFrames as error:
            for frame, _ in batch:
                self._refuse(Refusal(frame.index, frame.name, str(error)))
            return
        now_s = self._clock.now_s()
        self.tally.adapted += prediction.adapted
        self.tally.dropped = self._source.dropped
        for position, (frame, _) in enumerate(batch):
            answer = self._answer_to(frame, prediction, position, now_s)
            self.tally.frames += 1
            self.tally.latency_ms += answer.latency_ms
            self.tally.labelled += answer.correct is not None
            self.tally.correct += bool(answer.correct)
            self._sink.answer(answer)

    def _ask(self, batch: list[_Ready]) -> Prediction:
        frames = np.stack([ready.pixels for ready in batch])
        if len(batch) < self._engine.batch:
            # Repeated in turn, so that statistics over the batch are those of its frames; learning would count the
            # same frames twice.
            return self._engine.predict(frames[np.arange(self._engine.batch) % len(batch)])
        self._whole_batches += 1
        if self._options.adapt_every == 0 or self._whole_batches % self._options.adapt_every:
            return self._engine.predict(frames)
        self.tally.offered += 1
        return self._engine(frames)

    def _answer_to(self, frame: Frame, prediction: Prediction, position: int, now_s: float) -> Answer:
        class_index = int(prediction.labels[position])
        return Answer(
            frame=frame.index,
            name=frame.name,
            label=self._class_name(class_index),
            class_index=class_index,
            probability=float(prediction.probabilities[position, class_index]),
            entropy_nats=float(prediction.entropy_nats[position]),
            adapted=prediction.adapted,
            why=prediction.why,
            latency_ms=round(1000 * (now_s - frame.time_s), 3),
            dropped=self.tally.dropped,
            truth=None if frame.label is None else self._class_name(frame.label),
            correct=None if frame.label is None else frame.label == class_index,
        )

    def _class_name(self, class_index: int) -> str:
        names = self._engine.class_names
        return names[class_index] if class_index < len(names) else str(class_index)

    def _refuse(self, refusal: Refusal) -> None:
        self.tally.refused += 1
        self._sink.refuse(refusal)
