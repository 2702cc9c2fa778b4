"""The device's engine: a bundle, a state, and a step for each batch of frames; numpy and onnxruntime, never torch.

    runtime = Runtime.load("net.ecotta")
    prediction = runtime(frames)            # uint8 [N, H, W, 3]; answered first, then learned from
    runtime.save_state("adapted.safetensors")

The state is held twice, side by side: a run reads one copy and writes the other, and what was written becomes current
by a change of roles. So nothing is copied, and a result that is not to be trusted is simply not taken over.

Where memory runs short `set_level` closes the graphs that learn and gives back what they held; the state stays.

Threads may share one: a call begins when the one before it has ended.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from pathlib import Path
from threading import RLock
from typing import Any, Concatenate, ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray

from ecotta_rt.bundle import Bundle, GraphEntry, read_bundle
from ecotta_rt.errors import InputFileError, UsageError
from ecotta_rt.machine.process_memory import resident_or_none
from ecotta_rt.options import SessionOptions
from ecotta_rt.records import Level, Prediction, Why
from ecotta_rt.runtime.frame_check import require_frames
from ecotta_rt.runtime.preprocess import preprocess
from ecotta_rt.session.costs import TWO_SESSIONS_BYTES, arena_overhead
from ecotta_rt.session.give_back import give_back_memory
from ecotta_rt.session.graph_run import GraphRun
from ecotta_rt.state import AdaptState

__all__ = ["Runtime"]

Floats = NDArray[np.float32]

_STATE = ("parameters", "momentum", "statistics")
_SUMS = ("entropy_gradient", "l1_gradient")

_LEAST_CEILING_BYTES = 8 << 20  # below it nothing would run, and the guard could not even tell

P = ParamSpec("P")
R = TypeVar("R")


def _one_at_a_time(method: "Callable[Concatenate[Runtime, P], R]") -> "Callable[Concatenate[Runtime, P], R]":
    """Let a call wait for those of other threads: a run writes to buffers that the next one writes to as well."""

    @wraps(method)
    def alone(self: "Runtime", /, *args: P.args, **kwargs: P.kwargs) -> R:
        with self._lock:
            return method(self, *args, **kwargs)

    return alone


class Runtime:
    """Answers frames and learns from them; made by `load`.

    Threads may share one. Their calls are made one after the other, each whole: a step and what it does to the state, a
    change of level, a state that is read or put back. `interrupt` alone does not wait. Two threads are no faster than
    one; for that give each a Runtime of its own. Not for signal handlers: one would run in the middle of a call of its
    own thread.

    Attributes:
        batch: Frames that every call must have.
        frame: What one of them is, and how a picture becomes one.
        frame_size: Their height and width in pixels.
        class_names: By class.
        graph: The graph that learns; None with `adapt=False`.
        session_options: How it is run.
        level: Rung of the ladder, see `set_level`.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        batch: int | None = None,
        frame_by_frame: bool = False,
        fast: bool = False,
        adapt: bool = True,
        options: SessionOptions | None = None,
    ) -> None:
        manifest = bundle.manifest
        self._lock = RLock()  # anew, since some methods use others
        self.session_options = options or SessionOptions()
        self.class_names = manifest.classes
        self.frame = manifest.frame
        self.frame_size = self.frame.size
        self._bundle, self._layout, self._digest = bundle, manifest.layout, manifest.network_digest
        self._frame_by_frame = frame_by_frame
        self.level = Level.FULL
        self.batch = _batch(bundle, batch, frame_by_frame, adapt)
        self._piece = 1 if frame_by_frame else self.batch  # frames a run of a graph
        self._frame_shape = (self.frame.channels, *self.frame_size)
        self._frames: dict[int, Floats] = {}  # by frames a run
        initial = bundle.initial_state()
        self._metadata = dict(initial.metadata)
        self._now = dict(zip(_STATE, self._layout.pack(initial), strict=True))
        self._next = {"statistics": np.empty_like(self._now["statistics"])}
        self._sums: dict[str, NDArray[Any]] = {}
        self._next_sums: dict[str, NDArray[Any]] = {}
        self._runs: dict[str, GraphRun] = {}
        self._step_options, self._answer_options = _run_options(), _run_options()
        kinds = ("accumulate", "update") if frame_by_frame else ("step",)
        self._learning = [_name(bundle, kind, self._piece, fast) for kind in kinds] if adapt else []
        self.graph = self._learning[0] if adapt else None
        self._open()

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        batch: int | None = None,
        frame_by_frame: bool = False,
        fast: bool = False,
        adapt: bool = True,
        device: str | None = None,
        threads: int | None = None,
        options: SessionOptions | None = None,
        memory_limit_bytes: int | None = None,
        verify: bool = True,
    ) -> "Runtime":
        """Open a bundle and start on its initial state.

        Args:
            path: The bundle.
            batch: Frames a step; default: the smallest that the bundle has a graph for.
            frame_by_frame: Learn from `batch` frames (any number) at once, in the memory of one.
            fast: Prefer a step that takes more memory for less time, where the bundle has one.
            adapt: Off: only `predict` is used, and the graph that learns is not loaded.
            device: Id or file of a device profile. The fastest way to run the bundle that fits there is chosen: the
                step, the session options and their threads, as far as the other arguments leave them open.
            threads: Threads within one operator; default 1, or with `device` what is planned for it.
            options: All session options, instead of `threads`.
            memory_limit_bytes: What this process may have; default: with `device` what one process may have there. A
                step for which that is not enough fails, and the state is as it was; without a limit the kernel kills.
                It holds for tensors in the arena (see `SessionOptions`), and the first Runtime of a process sets it.
            verify: Compare the weights with their digest first.

        Raises:
            InputFileError: The bundle cannot be used, or onnxruntime refuses it.
            UsageError: The bundle has no graph for that batch, or an unknown device.
            BudgetExceeded: Nothing of it fits on the device; nothing was loaded.
        """
        bundle = read_bundle(path, verify=verify)
        if device is not None:
            from ecotta_rt.machine.device import load_device
            from ecotta_rt.plan.budget import Wish, plan

            wish = Wish(
                batch=batch,
                adapt=adapt,
                threads=threads,
                frame_by_frame=frame_by_frame or None,
                fast=fast or None,
                session_options={} if options is None else options.as_json(),
                limit_bytes=memory_limit_bytes,
            )
            way = plan(bundle.manifest, load_device(device), wish)
            batch, frame_by_frame, fast = way.batch, way.frame_by_frame, way.fast
            memory_limit_bytes = way.limit_bytes
            options = SessionOptions(way.threads, way.optimisation, way.memory)
        return cls(
            bundle,
            batch=batch,
            frame_by_frame=frame_by_frame,
            fast=fast,
            adapt=adapt,
            options=_with_ceiling(
                options or SessionOptions(threads=1 if threads is None else threads), memory_limit_bytes
            ),
        )

    @_one_at_a_time
    def __call__(self, frames: NDArray[np.uint8] | Floats) -> Prediction:
        """Answer `frames`, then learn from them.

        Args:
            frames: uint8 `[N, H, W, 3]` RGB (OpenCV's are BGR: `frames[..., ::-1]`), or float32 `[N, 3, H, W]` in
                [0, 1], without your own mean and std; N is `batch`. For a network of grey
                frames uint8 `[N, H, W, 1]` or `[N, H, W]`, or float32 `[N, 1, H, W]`. `preprocess` makes one frame of
                a picture of any size.

        Returns:
            The answers are from before this step; `adapted` and `why` say what became of it. When anything in the
            step is not finite, the state stays the one before, statistics included.

        Raises:
            BadFrames: Another size, number or type of frames, NaN, infinity or floats outside [0, 1]; the state is as
                it was.
            InputFileError: onnxruntime cannot run the graph; the state is as it was.
            BudgetExceeded: The step needs more memory than the limit leaves; the state is as it was.
            UsageError: Loaded with `adapt=False`, or on a level that does not learn.
            Interrupted: Somebody called `interrupt`; the state is as it was.
        """
        if self.graph is None:
            raise UsageError("this runtime was loaded with adapt=False; call predict, or load it again to learn")
        if not self.level.learns:
            raise UsageError(f"this runtime is on level {self.level}; call predict, or set_level(Level.FULL) to learn")
        require_frames(frames, self.batch, self.frame)
        self._step_options.terminate = False
        return self._accumulated(frames) if self._frame_by_frame else self._stepped(frames)

    def preprocess(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Make one frame of a picture of any size, by the bundle's own rule.

        Args:
            picture: uint8 `[H, W, 3]` RGB, or grey `[H, W]`.

        Returns:
            uint8 `[height, width, channels]`; stack `batch` of them for a call.

        Raises:
            BadFrames: Not such a picture.
        """
        return preprocess(picture, self.frame)

    def interrupt(self, answers: bool = False) -> None:
        """Give up the step in progress, if there is one, at its next node: its caller gets `Interrupted`.

        For another thread.

        Args:
            answers: Give up a call of `predict`, too.
        """
        self._step_options.terminate = True
        if answers:
            self._answer_options.terminate = True

    @_one_at_a_time
    def predict(self, frames: NDArray[np.uint8] | Floats, hold_statistics: bool = False) -> Prediction:
        """Answer without learning; in `running` normalisation the statistics still follow the frames.

        `why` is "off", or "not-finite" when an answer or the next statistics are NaN or infinite: the statistics then
        stay as they were before that run of the graph (frame by frame: before that frame).

        Args:
            frames: As calling it.
            hold_statistics: Leave the statistics as they are. Each frame is then answered in the memory of one, where
                the bundle has a graph for single frames and the answer does not hang on the batch's own statistics.

        Raises:
            BadFrames, InputFileError, BudgetExceeded: As calling it.
            Interrupted: Somebody called `interrupt(answers=True)`; statistics may have followed some of the frames.
        """
        require_frames(frames, self.batch, self.frame)
        self._answer_options.terminate = False
        piece = self._held_piece() if hold_statistics else self._piece
        run = self._run(_name(self._bundle, "predict", piece))
        logits, finite = [], True
        for frames_of_run in self._pieces(frames, piece):
            results = run(frames_of_run, self._now, self._next)
            logits.append(results["logits"].copy())
            if not np.isfinite(logits[-1]).all() or not self._written_are_finite(run):
                finite = False
            elif not hold_statistics:
                self._take_over(*run.writes)
        return self._prediction(np.concatenate(logits), None, adapted=False, why="off" if finite else "not-finite")

    @_one_at_a_time
    def set_level(self, level: Level) -> None:
        """Hold the graphs of one rung of the ladder and no others; memory of those closed goes back to the system.

        What is not needed is closed first: two graphs at once is what a step down must not take. On a level that does
        not learn `predict` answers; on `drop` it would have to open its graph again. The state stays in any case.

        Raises:
            InputFileError: onnxruntime cannot open a graph of that level.
            MemoryError: There is no memory for it. After either the level is the one asked for, without the graph; go
                to a lower one.
        """
        self.level = level
        if self._close_others():
            give_back_memory(self.session_options)
        self._open()

    @property
    @_one_at_a_time
    def transient_bytes(self) -> int:
        """What the next batch will take for its tensors above what is held now, by the bundle's figures.

        A graph's arena is there after its first run; with session memory `returning` it is gone after each.
        """
        returning = self.session_options.memory == "returning"
        to_come = [self._tensor_bytes(run.entry) for run in self._runs.values() if returning or not run.has_run]
        return max(to_come, default=0)

    def _tensor_bytes(self, entry: GraphEntry) -> int:
        """By the planner where the bundle has its figures, else by the exporter, who knows no arena."""
        options = self.session_options
        for session in entry.sessions:
            if session.optimisation == options.optimisation:
                if options.memory == "returning":
                    return session.live_bytes
                return int(session.arena_bytes * arena_overhead(entry.batch))
        return entry.step_peak_bytes

    @property
    @_one_at_a_time
    def state(self) -> AdaptState:
        """The present state as a value."""
        parameters, momentum, statistics = (self._now[name] for name in _STATE)
        return self._layout.unpack(parameters, momentum, statistics, self._digest, self._metadata)

    @_one_at_a_time
    def restore(self, state: AdaptState | str | Path) -> None:
        """Go on from `state`.

        Args:
            state: A state, or the file of one.

        Raises:
            InputFileError: It cannot be read, belongs to another network, or lacks something.
        """
        if not isinstance(state, AdaptState):
            state = AdaptState.load(state)
        if state.network_digest != self._digest:
            raise InputFileError(
                f"this state belongs to network {state.network_digest[:12]}, and the bundle {self._bundle.path} to "
                f"{self._digest[:12]}; it was adapted with another bundle"
            )
        for name, vector in zip(_STATE, self._layout.pack(state), strict=True):
            self._now[name][:] = vector
        self._metadata = dict(state.metadata)

    @_one_at_a_time
    def reset(self) -> None:
        """Back to the bundle's own state."""
        self.restore(self._bundle.initial_state())

    @_one_at_a_time
    def save_state(self, path: str | Path) -> None:
        """Write the present state to `path`, whole or not at all.

        Raises:
            UsageError: It holds NaN or infinity.
            TransferError: It cannot be written.
        """
        self.state.save(path)

    def _stepped(self, frames: NDArray[Any]) -> Prediction:
        assert self.graph is not None
        run = self._run(self.graph)
        results = run(self._scaled(frames, self.batch), self._now, self._next)
        logits, kept = results["logits"].copy(), results["kept"].copy()
        finite = bool(np.isfinite(logits).all()) and self._written_are_finite(run)
        why = _why(bool(results["moved"]), kept, finite)
        if why != "not-finite":
            self._take_over(*run.writes)
        return self._prediction(logits, kept, why == "adapted", why)

    def _accumulated(self, frames: NDArray[Any]) -> Prediction:
        """`batch` runs of one frame, then one update; nothing is taken over before all of them are finite."""
        before = self._now["statistics"].copy()
        try:
            prediction = self._accumulate_and_update(frames)
        except BaseException:  # an interruption too: the frames so far have moved the statistics
            self._now["statistics"][:] = before
            raise
        if prediction.why == "not-finite":
            self._now["statistics"][:] = before
        return prediction

    def _accumulate_and_update(self, frames: NDArray[Any]) -> Prediction:
        """Leaves the statistics moved whatever comes of it."""
        accumulate = self._run(_name(self._bundle, "accumulate", 1))
        update = self._run(_name(self._bundle, "update", 1))
        for vector in self._sums.values():
            vector[:] = 0
        logits, kept, finite = [], [], True
        for piece in self._pieces(frames, 1):
            results = accumulate(piece, {**self._now, **self._sums}, {**self._next, **self._next_sums})
            self._sums, self._next_sums = self._next_sums, self._sums
            good = bool(np.isfinite(results["logits"]).all()) and self._written_are_finite(accumulate)
            if good and "statistics" in accumulate.writes:
                self._take_over("statistics")
            finite = finite and good
            logits.append(results["logits"].copy())
            kept.append(results["kept"].copy())
        all_logits, all_kept = np.concatenate(logits), np.concatenate(kept)
        counts = {
            "kept_count": np.array(all_kept.sum(), np.float32),
            "frame_count": np.array(self.batch, np.float32),
        }
        results = update(None, {**self._now, **self._sums, **counts}, self._next)
        why = _why(bool(results["moved"]), all_kept, finite and self._written_are_finite(update))
        if why != "not-finite":
            self._take_over(*update.writes)
        return self._prediction(all_logits, all_kept, why == "adapted", why)

    def _prediction(self, logits: Floats, kept: NDArray[np.bool_] | None, adapted: bool, why: Why) -> Prediction:
        """What is said of the frames with these logits."""
        with np.errstate(invalid="ignore"):  # logits that are not finite give NaN, and `why` says it
            shifted = logits - logits.max(axis=1, keepdims=True)
            log_probabilities = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
            probabilities = np.exp(log_probabilities)
            entropy = -(probabilities * log_probabilities).sum(axis=1)
        labels = logits.argmax(axis=1)
        kept = np.zeros(len(logits), np.bool_) if kept is None else kept
        names = tuple(self.class_names[label] for label in labels)
        return Prediction(labels, probabilities, entropy, kept, adapted, why, names)

    def _wanted(self) -> list[str]:
        """The graphs of this level."""
        if self.level == Level.DROP:
            return []
        learning = self._learning if self.level.learns else []
        if learning and self.level == Level.FULL:
            return learning
        piece = self._held_piece() if self.level == Level.INFERENCE else self._piece
        return [*learning, _name(self._bundle, "predict", piece)]

    def _close_others(self) -> bool:
        """Whether anything was closed."""
        others = self._runs.keys() - self._wanted()
        for name in others:
            del self._runs[name]
        in_use = {run.entry.batch for run in self._runs.values()}
        self._frames = {count: buffer for count, buffer in self._frames.items() if count in in_use}
        if not (self.level.learns and self._learning):
            for name in ("parameters", "momentum"):
                self._next.pop(name, None)
            self._sums, self._next_sums = {}, {}
        for run in self._runs.values():
            run.forget_buffers()  # or those that were just dropped would live on in the graphs that stay
        return bool(others)

    def _open(self) -> None:
        if self.level.learns and self._learning:
            for name in ("parameters", "momentum"):
                self._next.setdefault(name, np.empty_like(self._now[name]))
            if self._frame_by_frame and not self._sums:
                self._sums = {name: np.zeros_like(self._now["parameters"]) for name in _SUMS}
                self._next_sums = {name: np.zeros_like(vector) for name, vector in self._sums.items()}
        for name in self._wanted():
            self._run(name)

    def _held_piece(self) -> int:
        """Frames a run where each is answered from statistics that stay."""
        single = any(graph.kind == "predict" and graph.batch == 1 for graph in self._bundle.manifest.graphs)
        return 1 if single and self._bundle.manifest.normalisation != "batch" else self._piece

    def _written_are_finite(self, run: GraphRun) -> bool:
        # Of the state alone: a sum of gradients that is not finite makes an update that does not move.
        return all(np.isfinite(self._next[name]).all() for name in run.writes if name in self._next)

    def _take_over(self, *names: str) -> None:
        for name in names:
            self._now[name], self._next[name] = self._next[name], self._now[name]

    def _run(self, name: str) -> GraphRun:
        if name not in self._runs:
            run_options = self._step_options if name in self._learning else self._answer_options
            self._runs[name] = GraphRun(self._bundle, name, self.session_options, run_options)
        return self._runs[name]

    def _pieces(self, frames: NDArray[Any], size: int) -> Any:
        for start in range(0, len(frames), size):
            yield self._scaled(frames[start : start + size], size)

    def _scaled(self, frames: NDArray[Any], count: int) -> Floats:
        """The frames as the graphs want them, in the one buffer there is for so many."""
        if count not in self._frames:
            self._frames[count] = np.zeros((count, *self._frame_shape), np.float32)
        buffer = self._frames[count]
        if frames.dtype == np.uint8:
            planes = frames[:, None] if frames.ndim == 3 else frames.transpose(0, 3, 1, 2)
            np.divide(planes, np.float32(255), out=buffer, dtype=np.float32)
        else:
            buffer[:] = frames
        return buffer


def _with_ceiling(options: SessionOptions, limit_bytes: int | None) -> SessionOptions:
    """The options, with what the limit leaves for tensors beside the process as it is and its sessions."""
    if limit_bytes is None or options.ceiling_bytes is not None:
        return options
    _run_options()  # loads onnxruntime, which counts too
    left_bytes = limit_bytes - (resident_or_none() or 0) - TWO_SESSIONS_BYTES
    return replace(options, ceiling_bytes=max(left_bytes, _LEAST_CEILING_BYTES))


def _run_options() -> Any:
    import onnxruntime as ort

    return ort.RunOptions()


def _batch(bundle: Bundle, batch: int | None, frame_by_frame: bool, adapt: bool) -> int:
    graphs = bundle.manifest.graphs
    if frame_by_frame:
        if not any(graph.kind == "accumulate" for graph in graphs):
            raise UsageError(f"{bundle.path} has no graph that learns frame by frame; export it with --frame-by-frame")
        if batch is not None and batch < 1:
            raise UsageError(f"batch={batch}: give 1 or more")
        return batch or 1
    kind, what = ("step", "steps") if adapt else ("predict", "answers")
    sizes = sorted({graph.batch for graph in graphs if graph.kind == kind})
    if batch is None and sizes:
        return sizes[0]
    if batch not in sizes:
        raise UsageError(
            f"batch={batch}: {bundle.path} has {what} for {sizes or 'no'} frames; export it again with that batch, or "
            "take it frame by frame"
        )
    return batch


def _name(bundle: Bundle, kind: str, batch: int, fast: bool = False) -> str:
    fitting = [graph for graph in bundle.manifest.graphs if graph.kind == kind and graph.batch == batch]
    if not fitting:
        raise UsageError(f"{bundle.path} has no {kind!r} graph for {batch} frames")
    return next((graph for graph in fitting if graph.fast == fast), fitting[0]).name


def _why(moved: bool, kept: NDArray[np.bool_], finite: bool) -> Why:
    if finite and moved:
        return "adapted"
    # With frames below the threshold only a gradient that is not finite keeps the step from moving.
    return "not-finite" if not finite or kept.any() else "uncertain"
