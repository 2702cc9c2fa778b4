"""The device's engine: a bundle, a state, and a step for each batch of frames; numpy and onnxruntime, never torch.

    runtime = Runtime.load("net.ecotta")
    prediction = runtime(frames)            # uint8 [N, H, W, 3]; answered first, then followed or learned from
    runtime.save_state("adapted.safetensors")

The statistics of the norms follow the stream, answers are filtered by the frames around them, and where the bundle or
the caller says so the network learns by gradients, too.

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

from ecotta_rt.adapt.adaptation import Adaptation
from ecotta_rt.adapt.signs import SignsRecipe
from ecotta_rt.bundle import Bundle, read_bundle
from ecotta_rt.bundle.ports import SEEN, SINGLE_FRAME
from ecotta_rt.errors import InputFileError, UsageError
from ecotta_rt.options import TRACKED, AnswerKind, SessionOptions
from ecotta_rt.records import Level, Prediction, Why
from ecotta_rt.runtime.choosing import choose_batch, graph_name, with_ceiling
from ecotta_rt.runtime.frame_check import require_frames
from ecotta_rt.runtime.open_graphs import OpenGraphs
from ecotta_rt.runtime.predicting import predicted, probabilities_of, why_moved
from ecotta_rt.runtime.preprocess import preprocess
from ecotta_rt.runtime.recipe import adaptation_options, described_bundle, learns, recipe_of, signs_recipe_of
from ecotta_rt.runtime.stream import Stream
from ecotta_rt.runtime.vectors import StateVectors
from ecotta_rt.runtime.views import averaged, mirrored
from ecotta_rt.state import AdaptState

__all__ = ["Runtime"]

Floats = NDArray[np.float32]

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
    """Answers frames and adapts to them; made by `load`.

    One Runtime can serve several cameras of one network in turn: what each of them has taught is a `Stream`, see
    `new_stream` and `use`. `state`, `restore`, `save_state` and `reset` are of the stream in use.

    Threads may share one. Their calls are made one after the other, each whole: a step and what it does to the state, a
    change of level, a state that is read or put back. `interrupt` alone does not wait. Two threads are no faster than
    one; for that give each a Runtime of its own. Not for signal handlers: one would run in the middle of a call of its
    own thread.

    Attributes:
        batch: Frames that every call must have.
        frame: What one of them is, and how a picture becomes one.
        frame_size: Their height and width in pixels.
        class_names: By class.
        graph: The graph that learns; None where nothing does.
        options: How the stream is followed: `ecotta_rt.options.AdaptationOptions`.
        stream: The one in use.
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
        adapt: bool | None = None,
        answer: AnswerKind | None = None,
        views: int | None = None,
        options: SessionOptions | None = None,
    ) -> None:
        manifest = bundle.manifest
        self.options = adaptation_options(manifest, answer=answer, views=views)
        self._may_learn = adapt is not False
        adapt = learns(manifest) if adapt is None else adapt
        self._lock = RLock()  # anew, since some methods use others
        self.session_options = options or SessionOptions()
        self.class_names = manifest.classes
        self.frame = manifest.frame
        self.frame_size = self.frame.size
        self._bundle, self._frame_by_frame = bundle, frame_by_frame
        self.level = Level.FULL
        self.batch = choose_batch(bundle, batch, frame_by_frame, adapt)
        self._piece = 1 if frame_by_frame else self.batch  # frames a run of a graph
        initial = bundle.initial_state()
        self._metadata = dict(initial.metadata)
        self._vectors = StateVectors(manifest, initial, learns=adapt)
        if self.options.views > 1 and manifest.normalisation in TRACKED and not manifest.ports.observes:
            raise UsageError(
                "views=2: the graphs of this bundle move their statistics themselves, by the mirror image, too; "
                "make it anew with this version's ecotta prepare, or use views=1"
            )
        self._recipe = recipe_of(bundle, self.options)
        self.stream = self.new_stream()
        self.stream.enter(self._vectors)
        kinds = SINGLE_FRAME if frame_by_frame else ("step",)
        self._learning = {graph_name(bundle, kind, self._piece, fast): kind for kind in kinds} if adapt else {}
        self.graph = next(iter(self._learning), None)
        answers_too = self.options.views > 1  # the mirror image is answered, and not learned from
        self._graphs = OpenGraphs(
            bundle, self._vectors, self.session_options, self._learning, self._piece, answers_too=answers_too
        )
        self._graphs.open(self.level)

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        batch: int | None = None,
        frame_by_frame: bool = False,
        fast: bool = False,
        adapt: bool | None = None,
        answer: AnswerKind | None = None,
        views: int | None = None,
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
            adapt: Whether to learn by gradients; default: as the bundle says. Off: the graph that learns is not loaded,
                and it is an error to ask for learning.
            answer: Which of its two answers a `Prediction` gives as `labels`; default: as the bundle says.
            views: 2: average the answers to each frame and its mirror image, where mirroring keeps the class; default:
                as the bundle says.
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
                adapt=learns(bundle.manifest) if adapt is None else adapt,
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
            answer=answer,
            views=views,
            options=with_ceiling(
                options or SessionOptions(threads=1 if threads is None else threads), memory_limit_bytes
            ),
        )

    @_one_at_a_time
    def __call__(self, frames: NDArray[np.uint8] | Floats) -> Prediction:
        """Answer `frames`, then learn from them; where the bundle does not learn, `predict`.

        Args:
            frames: uint8 `[N, H, W, 3]` RGB (OpenCV's are BGR: `frames[..., ::-1]`), or float32 `[N, 3, H, W]` in
                [0, 1], without your own mean and std; N is `batch`. For a network of grey
                frames uint8 `[N, H, W, 1]` or `[N, H, W]`, or float32 `[N, 1, H, W]`. `preprocess` makes one frame of
                a picture of any size.

        Returns:
            The answers are from before this step; `adapted` and `why` say what became of it. When anything in the
            step is not finite, the state stays the one before, statistics and filter included.

        Raises:
            BadFrames: Another size, number or type of frames, NaN, infinity or floats outside [0, 1]; the state is as
                it was.
            InputFileError: onnxruntime cannot run the graph; the state is as it was.
            BudgetExceeded: The step needs more memory than the limit leaves; the state is as it was.
            UsageError: Loaded with `adapt=False`, or on a level that does not learn.
            Interrupted: Somebody called `interrupt`; the state is as it was.
        """
        if self.graph is None and self._may_learn:
            return self.predict(frames)
        if self.graph is None:
            raise UsageError("this runtime was loaded with adapt=False; call predict, or load it again to learn")
        if not self.level.learns:
            raise UsageError(f"this runtime is on level {self.level}; call predict, or set_level(Level.FULL) to learn")
        require_frames(frames, self.batch, self.frame)
        self._graphs.step_options.terminate = False
        prediction = self._accumulated(frames) if self._frame_by_frame else self._stepped(frames)
        self.stream.count(prediction, self.batch)
        return prediction

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
        self._graphs.step_options.terminate = True
        if answers:
            self._graphs.answer_options.terminate = True

    @_one_at_a_time
    def predict(
        self, frames: NDArray[np.uint8] | Floats, hold_statistics: bool = False, count: int | None = None
    ) -> Prediction:
        """Answer without learning; in `running` normalisation the statistics still follow the frames afterwards.

        `why` is "off", or "not-finite" when an answer or the next statistics are NaN or infinite: statistics and filter
        then stay as they were. (With a bundle of version 1 to 4 graphs move the statistics, and frame by frame those
        before stay.)

        Args:
            frames: As calling it.
            hold_statistics: Leave the statistics as they are, which is the fastest. Each frame is then answered in the
                memory of one, where the bundle has a graph for single frames and the answer does not hang on the
                batch's own statistics.
            count: How many frames there are: those behind them only fill the batch, and nothing follows them.

        Raises:
            BadFrames, InputFileError, BudgetExceeded: As calling it.
            Interrupted: Somebody called `interrupt(answers=True)`; statistics may have followed some of the frames.
        """
        require_frames(frames, self.batch, self.frame)
        self._graphs.answer_options.terminate = False
        logits, seen, finite = self._answered(frames, hold_statistics)
        prediction = self._followed(logits, seen, "off" if finite else "not-finite", count=count)
        if not hold_statistics:
            self.stream.count(prediction, self.batch if count is None else count)
        return prediction

    @property
    def settings(self) -> str:
        """What it does with a stream, in one line."""
        return described_bundle(self._bundle, self.options, learning=self.graph is not None)

    @property
    def adaptation(self) -> Adaptation:
        """What the stream in use has taught without gradients."""
        return self.stream.adaptation

    @property
    def signs_recipe(self) -> SignsRecipe:
        """By what the signs of its streams are read; see `ecotta_rt.adapt.signs`."""
        return signs_recipe_of(self._bundle.manifest, self._recipe)

    def new_stream(self) -> Stream:
        """What the stream of another camera of this network begins with: the bundle's own state. See `use`."""
        return Stream(Adaptation(self._recipe), self._vectors.new(), self._metadata)

    @_one_at_a_time
    def use(self, stream: Stream) -> Stream:
        """Go on with another camera: all that moves is its own from here on. Nothing is copied.

        Where streams have learned other parameters, the graphs that answer take these as inputs from the second stream
        on, which is slower than as constants: one reopening, and none at later changes.

        Args:
            stream: From `new_stream` of this Runtime.

        Returns:
            The one before.

        Raises:
            UsageError: It is of another Runtime, or no Stream.
        """
        if not isinstance(stream, Stream):
            raise UsageError(f"use() takes a Stream, not {type(stream).__name__}; see new_stream()")
        if stream.adaptation.recipe is not self._recipe:
            raise UsageError("this stream is of another Runtime; take one from new_stream()")
        before, self.stream = self.stream, stream
        if stream is not before:
            learned = self._vectors.learned
            before.leave(self._vectors)
            stream.enter(self._vectors)
            self._graphs.take_turns(learned)
        return before

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
        self._graphs.close_others(level)
        self._graphs.open(level)

    @property
    @_one_at_a_time
    def transient_bytes(self) -> int:
        """What the next batch will take for its tensors above what is held now, by the bundle's figures.

        A graph's arena is there after its first run; with session memory `returning` it is gone after each.
        """
        return self._graphs.transient_bytes()

    @property
    @_one_at_a_time
    def state(self) -> AdaptState:
        """The present state as a value."""
        metadata = {**self.stream.metadata, **self.stream.behind.metadata()}
        return replace(self._vectors.as_state(metadata), adaptation=self.adaptation.arrays())

    @_one_at_a_time
    def restore(self, state: AdaptState | str | Path) -> bool:
        """Go on from `state`.

        Args:
            state: A state, or the file of one.

        Returns:
            Whether all of it was taken up; a memory of places that was saved with other options begins anew.

        Raises:
            InputFileError: It cannot be read, belongs to another network, or lacks something.
        """
        if not isinstance(state, AdaptState):
            state = AdaptState.load(state)
        digest = self._bundle.manifest.network_digest
        if state.network_digest != digest:
            raise InputFileError(
                f"this state belongs to network {state.network_digest[:12]}, and the bundle {self._bundle.path} to "
                f"{digest[:12]}; it was adapted with another bundle"
            )
        vectors = self._vectors.unpacked(state)
        try:
            whole = self.adaptation.restore(vectors["statistics"], state.adaptation)
        except UsageError as error:
            raise InputFileError(f"this state cannot be gone on from: {error}") from error
        if self._vectors.go_on_from(vectors):
            self._graphs.close_fixed()
            self._graphs.open(self.level)
        self.stream.begin_from(state.metadata)
        return whole

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

    def _answered(self, frames: NDArray[Any], hold_statistics: bool) -> tuple[Floats, Floats | None, bool]:
        """Logits `[N, C]` of all views, what was seen in each frame `[N, S]`, and whether all of it is finite."""
        logits, seen, finite = self._viewed(frames, hold_statistics)
        if self.options.views == 1:
            return logits, seen, finite
        return _both(logits, seen, finite, *self._viewed(mirrored(frames), hold_statistics))

    def _viewed(self, frames: NDArray[Any], hold_statistics: bool) -> tuple[Floats, Floats | None, bool]:
        piece = self._graphs.held_piece if hold_statistics else self._piece
        run = self._graphs.answering(piece, follows=not hold_statistics)
        logits, seen, finite = [], [], True
        for frames_of_run in self._graphs.pieces(frames, piece):
            results = run(frames_of_run, self._vectors.now, self._vectors.next)
            logits.append(results["logits"].copy())
            if not np.isfinite(logits[-1]).all() or not self._vectors.written_are_finite(run.writes):
                finite = False
            elif not hold_statistics:
                self._vectors.take_over(run.writes)
            seen += [results[SEEN].copy()] if SEEN in results else []
        return np.concatenate(logits), np.concatenate(seen) if seen else None, finite

    def _followed(
        self,
        logits: Floats,
        seen: Floats | None,
        why: Why,
        kept: NDArray[np.bool_] | None = None,
        written: tuple[str, ...] = (),
        count: int | None = None,
    ) -> Prediction:
        """Filter the answers, let the statistics follow and take over what was written, unless `why` forbids it."""
        filtered = probabilities_of(logits)[0]
        seen = None if seen is None else seen[:count]
        filtered[:count], moved = self.adaptation.take(filtered[:count], seen, why != "not-finite")
        if moved:
            self._vectors.take_over(written)
        else:
            why = "not-finite"
        return predicted(logits, self.class_names, why, kept, filtered=filtered, answer=self.options.answer)

    def _stepped(self, frames: NDArray[Any]) -> Prediction:
        assert self.graph is not None
        other = self._viewed(mirrored(frames), hold_statistics=False) if self.options.views > 1 else None
        run, vectors = self._graphs.run(self.graph), self._vectors
        results = run(self._graphs.scaled(frames), vectors.now, vectors.next)
        logits, kept = results["logits"].copy(), results["kept"].copy()
        finite = bool(np.isfinite(logits).all()) and vectors.written_are_finite(run.writes)
        seen = results.get(SEEN)
        if other is not None:
            logits, seen, finite = _both(logits, seen, finite, *other)
        why = why_moved(bool(results["moved"]), kept, finite)
        return self._followed(logits, seen, why, kept, run.writes)

    def _accumulated(self, frames: NDArray[Any]) -> Prediction:
        """`batch` runs of one frame, then one update; nothing is taken over before all of them are finite."""
        before = self._vectors.copy_of(self._vectors.followed)
        try:
            prediction = self._accumulate_and_update(frames)
        except BaseException:  # an interruption too: the frames so far may have moved the statistics
            self._vectors.put_back(before)
            raise
        if prediction.why == "not-finite":
            self._vectors.put_back(before)
        return prediction

    def _accumulate_and_update(self, frames: NDArray[Any]) -> Prediction:
        """Of a bundle up to version 4 it leaves the statistics moved, whatever comes of it."""
        other = self._viewed(mirrored(frames), hold_statistics=False) if self.options.views > 1 else None
        accumulate, update = (self._graphs.run(name) for name in self._learning)
        vectors = self._vectors
        vectors.clear_sums()
        logits, kept, seen, finite = [], [], [], True
        for piece in self._graphs.pieces(frames, 1):
            results = accumulate(piece, vectors.now, vectors.next)
            vectors.add_up()
            good = bool(np.isfinite(results["logits"]).all()) and vectors.written_are_finite(vectors.followed)
            if good:
                vectors.take_over(vectors.followed)
            finite = finite and good
            logits.append(results["logits"].copy())
            kept.append(results["kept"].copy())
            seen += [results[SEEN].copy()] if SEEN in results else []
        all_logits, all_kept = np.concatenate(logits), np.concatenate(kept)
        all_seen = np.concatenate(seen) if seen else None
        counts = {
            "kept_count": np.array(all_kept.sum(), np.float32),
            "frame_count": np.array(self.batch, np.float32),
        }
        results = update(None, {**vectors.now, **counts}, vectors.next)
        finite = finite and vectors.written_are_finite(update.writes)
        if other is not None:
            all_logits, all_seen, finite = _both(all_logits, all_seen, finite, *other)
        why = why_moved(bool(results["moved"]), all_kept, finite)
        return self._followed(all_logits, all_seen, why, all_kept, update.writes)


def _both(
    logits: Floats, seen: Floats | None, finite: bool, others: Floats, others_seen: Floats | None, others_finite: bool
) -> tuple[Floats, Floats | None, bool]:
    """Two views as one: the mean of their probabilities, and of what was seen in them."""
    mean = None if seen is None or others_seen is None else np.float32(0.5) * (seen + others_seen)
    return averaged(logits, others), mean, finite and others_finite
