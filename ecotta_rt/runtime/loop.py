"""Source -> preprocess -> batches -> network -> sink, and nothing else.

What can go wrong with one frame is counted and told, and the stream goes on. Everything around it, saving the state or
showing progress, listens to the tally after each batch.

A guard is asked with each frame, so before each batch, and steps are made between batches: a frame that was accepted is
answered, whatever the level. `consult` asks it from another thread while no frame comes; while a batch is learned from,
it gives the learning up where memory is short, and the batch is answered without.
"""

import sys
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice
from threading import Lock
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ecotta_rt.bundle import FrameSpec, Resize
from ecotta_rt.errors import BadFrames, BudgetExceeded, EcottaError, InputFileError, UsageError
from ecotta_rt.machine.clock import Clock, SystemClock
from ecotta_rt.records import Frame, Prediction
from ecotta_rt.runtime.guard import Guard, GuardEvent
from ecotta_rt.runtime.level import Level
from ecotta_rt.runtime.preprocess import preprocess
from ecotta_rt.session.interrupted import Interrupted
from ecotta_rt.sinks.json_lines import Answer, Sink
from ecotta_rt.sinks.tally import Tally
from ecotta_rt.sources.source import Item, Refusal, Source

__all__ = ["Engine", "Loop", "LoopOptions"]


class Engine(Protocol):
    """What the loop needs of a network that adapts.

    Attributes:
        frame: What its frames are, and how a picture becomes one.
        batch: Frames that every call must have.
        class_names: By class; empty where nobody named them.
        transient_bytes: What the next batch will take above what is held now.
    """

    @property
    def frame(self) -> FrameSpec: ...

    @property
    def batch(self) -> int: ...

    @property
    def class_names(self) -> tuple[str, ...]: ...

    def __call__(self, frames: NDArray[np.uint8]) -> Prediction:
        """Answer, then learn from `frames`, uint8 `[batch, height, width, channels]`."""

    @property
    def transient_bytes(self) -> int: ...

    def predict(self, frames: NDArray[np.uint8], hold_statistics: bool = False) -> Prediction:
        """Answer only."""

    def interrupt(self) -> None:
        """Let the step in progress, if there is one, end with `Interrupted`; called from another thread."""

    def set_level(self, level: Level) -> None:
        """Hold what this level needs and give the rest back; raises InputFileError or MemoryError where it cannot."""


@dataclass(frozen=True)
class LoopOptions:
    """How to run.

    Attributes:
        adapt_every: Learn from each n-th batch, answer the others only; 0: never learn.
        limit: Frames to take from the source, refused ones included; None: all.
        resize: How pictures of another shape become frames; None: as the network's bundle says.

    Raises:
        UsageError: A number out of range.
    """

    adapt_every: int = 1
    limit: int | None = None
    resize: Resize | None = None

    def __post_init__(self) -> None:
        if self.adapt_every < 0:
            raise UsageError(f"adapt every {self.adapt_every}: give 1 for each batch, n for each n-th, 0 for none")
        if self.limit is not None and not 1 <= self.limit <= sys.maxsize:
            raise UsageError(f"limit {self.limit}: give a number of frames from 1 to {sys.maxsize}")


class Loop:
    """One run over one source.

    Args:
        source: Where frames come from; closed when the run ends.
        engine: Answers them.
        sink: Where the answers go.
        options: How to run.
        clock: The one that the source dates its frames with.
        after_batch: Called with the tally after each batch.
        guard: Says how much there is to do with; without one everything is done.
        on_step: Called with each step of the guard.

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
        guard: Guard | None = None,
        on_step: Callable[[GuardEvent], None] | None = None,
    ) -> None:
        self.tally = Tally()
        self._source = source
        self._engine = engine
        self._sink = sink
        self._options = options or LoopOptions()
        resize = self._options.resize
        self._frame = engine.frame if resize is None else replace(engine.frame, resize=resize)
        self._clock = clock or SystemClock()
        self._after_batch = after_batch
        self._guard = guard
        self._on_step = on_step
        self._level = Level.FULL if guard is None else guard.level
        self._whole_batches = 0
        self._waiting: list[Frame] = []  # of the network's size: those of a camera would be a hundred times as large
        self._position = 0
        self._shed = 0
        self._stopping = False
        self._turn = Lock()  # whoever holds it may use engine, sink and guard
        self._learning = False
        self._shortage: tuple[int, int] | None = None  # what a graph asked for and did not get
        self._failure: Exception | None = None

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
                for item in self._given(islice(items, self._options.limit)):
                    with self._turn:
                        accepted = self._take(item)
                    if self._guard is not None and not accepted:
                        # A camera drops the others itself, and a folder is not emptied in a second.
                        self._clock.sleep_s(self._guard.policy.check_every_s)
                    if self._stopping:
                        break
            with self._turn:
                self._answer_waiting()
        finally:
            self.tally.dropped = self._dropped()
        if self._failure is not None:
            raise self._failure
        return self.tally

    def consult(self) -> None:
        """Ask the guard now and make the step: for a thread that watches meanwhile.

        While a batch is learned from nothing is done but giving that up, where memory is short: a large batch on a
        small board takes longer than the kernel waits. What goes wrong ends the run, and `run` raises it.
        """
        try:
            self._consult()
        except Exception as error:
            self._failure = self._failure or error
            self.stop()

    def stop(self) -> None:
        """End the run after the batch in progress; may be called from a signal handler or another thread."""
        if not self._stopping:
            self._stopping = True
            self._source.close()

    def _consult(self) -> None:
        if self._turn.acquire(blocking=False):
            try:
                self._ask_guard()
            finally:
                self._turn.release()
        elif self._guard is not None and self._learning and self._guard.must_not_wait():
            self._engine.interrupt()

    def _given(self, items: Iterator[Item]) -> Generator[Item, None, None]:
        """What the source gives, until it ends or fails; a failure waits until the frames so far are answered."""
        try:
            yield from items
        except EcottaError as error:
            self._failure = self._failure or error

    def _take(self, item: Item) -> bool:
        """Accept a frame, and answer when a batch is whole; returns whether frames are let in."""
        self._position = item.index
        self._ask_guard()
        if self._level == Level.DROP and isinstance(item, Frame):
            self._shed += 1
            self.tally.levels[Level.DROP] += 1
            self.tally.dropped = self._dropped()
            return False
        ready = self._prepare(item)
        if ready is not None:
            self._waiting.append(ready)
        if len(self._waiting) == self._engine.batch:
            self._answer_waiting()
        return True

    def _answer_waiting(self) -> None:
        if not self._waiting:
            return
        batch, self._waiting = self._waiting, []
        # Outside the handler: an error at hand keeps the graph alive that the guard is about to close.
        learn = True
        while not self._is_answered(batch, learn):
            if not learn and self._stopping:  # not even an answer came in time
                for frame in batch:
                    self._refuse(Refusal(frame.index, frame.name, "given up: the run was to end"))
                break
            self._waiting, learn = batch, False
            self._ask_guard()
            if not self._waiting:  # answered before everything was closed
                return
            self._waiting = []
        for listener in self._after_batch:
            listener(self.tally)

    def _is_answered(self, batch: list[Frame], learn: bool) -> bool:
        """Answer; False where that was given up, or had no memory while the guard has a rung that needs less."""
        try:
            self._answer(batch, learn)
        except Interrupted:
            return False
        except BudgetExceeded as error:
            if self._guard is None or self._guard.level == Level.DROP:
                raise
            self._shortage = (error.need_bytes, error.limit_bytes)
            return False
        return True

    def _dropped(self) -> int:
        return self._source.dropped + self._shed

    def _ask_guard(self) -> None:
        if self._guard is None:
            return
        shortage, self._shortage = self._shortage, None
        if shortage is None:
            step = self._guard.check(self._position, self._engine.transient_bytes)
        else:
            step = self._guard.fell_short(self._position, *shortage)
        if step is None:
            return
        down = step.level > step.before
        if down:
            self._tell(step)  # before it is made: should it come too late, the last line says what was tried
        reached = self._go_to(step)
        if reached != step.level:
            self._tell(self._guard.cannot_load(step, reached))
        elif not down:
            self._tell(step)

    def _tell(self, step: GuardEvent) -> None:
        self.tally.steps += 1
        self._sink.event(step)
        if self._on_step is not None:
            self._on_step(step)

    def _go_to(self, step: GuardEvent) -> Level:
        """Make the step.

        Returns:
            The level reached: where its graphs cannot be opened, the one before, or the next below that can.
        """
        candidates = [level for level in Level if level >= step.level and not step.level < level < step.before]
        for level in candidates:
            if level == Level.DROP:
                self._answer_the_last()
            try:
                self._engine.set_level(level)
            except (InputFileError, MemoryError):
                continue
            self._level = level
            return level
        raise AssertionError("drop opens nothing")

    def _answer_the_last(self) -> None:
        """Frames that wait for a whole batch are answered before all graphs are closed."""
        waiting = self._waiting
        try:
            if waiting and self._level < Level.INFERENCE:
                self._level = Level.INFERENCE
                self._engine.set_level(self._level)
            self._answer_waiting()
        except (InputFileError, MemoryError) as error:
            self._waiting = []
            for frame in waiting:
                self._refuse(Refusal(frame.index, frame.name, f"no memory to answer it: {error}"))

    def _prepare(self, item: Item) -> Frame | None:
        if isinstance(item, Refusal):
            self._refuse(item)
            return None
        try:
            return replace(item, pixels=preprocess(item.pixels, self._frame))
        except BadFrames as error:
            self._refuse(Refusal(item.index, item.name, str(error)))
            return None

    def _answer(self, batch: list[Frame], learn: bool = True) -> None:
        try:
            prediction = self._ask(batch, learn)
        except BadFrames as error:
            for frame in batch:
                self._refuse(Refusal(frame.index, frame.name, str(error)))
            return
        now_s = self._clock.now_s()
        self.tally.adapted += prediction.adapted
        self.tally.dropped = self._dropped()
        for position, frame in enumerate(batch):
            answer = self._answer_to(frame, prediction, position, now_s)
            self.tally.frames += 1
            self.tally.damaged += frame.damaged
            self.tally.levels[self._level] += 1
            self.tally.latency_ms += answer.latency_ms
            self.tally.labelled += answer.correct is not None
            self.tally.correct += bool(answer.correct)
            self._sink.answer(answer)

    def _ask(self, batch: list[Frame], learn: bool) -> Prediction:
        frames = np.stack([frame.pixels for frame in batch])
        if any(frame.damaged for frame in batch):
            # Repeated in turn where it is short, as below.
            shown = frames[np.arange(self._engine.batch) % len(batch)]
            return replace(self._engine.predict(shown, hold_statistics=True), why="damaged")
        if len(batch) < self._engine.batch:
            # Repeated in turn, so that statistics over the batch are those of its frames; learning would count the
            # same frames twice.
            return self._predict(frames[np.arange(self._engine.batch) % len(batch)])
        self._whole_batches += learn
        every = self._options.adapt_every
        if self._guard is not None and self._level == Level.SPARSE:
            every *= self._guard.policy.sparse_every
        if not learn or not self._level.learns or every == 0 or self._whole_batches % every:
            return self._predict(frames)
        prediction = self._learn(frames)
        self.tally.offered += 1
        self.tally.uncertain += prediction.why == "uncertain"
        return prediction

    def _learn(self, frames: NDArray[np.uint8]) -> Prediction:
        self._learning = True
        try:
            return self._engine(frames)
        finally:
            self._learning = False

    def _predict(self, frames: NDArray[np.uint8]) -> Prediction:
        return self._engine.predict(frames, hold_statistics=self._level >= Level.INFERENCE)

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
