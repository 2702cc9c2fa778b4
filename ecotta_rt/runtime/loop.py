"""Source -> batches -> network -> events, and nothing else.

    for event in Loop(source, engine):
        sink.take(event)

What can go wrong with one frame is an event, and the stream goes on. Everything around it is a sink: counting, saving
the state, showing progress, writing answers.

A guard is asked with each frame, so before each batch, and steps are made between batches: a frame that was accepted is
answered, whatever the level. While no frame comes it is asked as well, where the source is `Ticking`. While a batch is
learned from, `check_memory` gives the learning up where memory is short, and the batch is answered without.
"""

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

from ecotta_rt.bundle import Resize
from ecotta_rt.errors import BadFrames, BudgetExceeded, EcottaError, InputFileError, UsageError
from ecotta_rt.events import BatchAnswered, Dropped, Event, Item, Refusal, SourceBack, SourceLost, StreamEnded
from ecotta_rt.machine.clock import Clock, SystemClock
from ecotta_rt.records import Frame, Level, Prediction
from ecotta_rt.runtime.answers import answers_to
from ecotta_rt.runtime.batching import Batching, stacked
from ecotta_rt.runtime.guard import Guard
from ecotta_rt.runtime.ladder import Ladder
from ecotta_rt.runtime.learning import Act, LearningPolicy
from ecotta_rt.session.interrupted import Interrupted
from ecotta_rt.sources.source import Source, Ticking

if TYPE_CHECKING:
    from ecotta_rt.runtime.engine import Runtime

__all__ = ["Loop"]


class Loop:
    """One run over one source: iterating makes it, and yields its events.

    Args:
        source: Where frames come from; its iteration is closed when the run ends.
        engine: Answers them.
        adapt_every: Learn from each n-th batch, answer the others only; 0: never learn.
        limit: Frames to take from the source, refused ones included; None: all.
        resize: How pictures of another shape become frames; None: as the network's bundle says.
        clock: The one that the source dates its frames with.
        guard: Says how much there is to do with; without one everything is done.

    Raises:
        UsageError: A number out of range.
    """

    def __init__(
        self,
        source: Source,
        engine: "Runtime",
        *,
        adapt_every: int = 1,
        limit: int | None = None,
        resize: Resize | None = None,
        clock: Clock | None = None,
        guard: Guard | None = None,
    ) -> None:
        if adapt_every < 0:
            raise UsageError(f"adapt every {adapt_every}: give 1 for each batch, n for each n-th, 0 for none")
        if limit is not None and limit < 1:
            raise UsageError(f"limit {limit}: give 1 frame or more")
        frame = engine.frame if resize is None else replace(engine.frame, resize=resize)
        sparse_every = 1 if guard is None else guard.policy.sparse_every
        self._source = source
        self._engine = engine
        self._limit = limit
        self._clock = clock or SystemClock()
        self._guard = guard
        self._batching = Batching(frame, engine.batch)
        self._policy = LearningPolicy(adapt_every, sparse_every, engine.batch)
        self._ladder = Ladder(engine, guard, self._answer_the_last)
        self._position = 0
        self._shed = 0
        self._lost = False
        self._stopping = False
        self._learning = False
        self._failure: Exception | None = None

    def __iter__(self) -> Generator[Event, None, None]:
        """Run to the end of the source, the limit, or `stop`.

        Raises:
            EcottaError: The source or the engine ended the run. Where it was the source, the frames that it had given
                are answered first.
        """
        try:
            with closing(self._given()) as items:
                for item in items:
                    yield from self._take(item)
                    if self._stopping:
                        break
            yield from self._answer_waiting()
        except EcottaError as error:
            self._failure = self._failure or error
        yield StreamEnded(self.dropped, "" if self._failure is None else str(self._failure))
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        """End the run after the batch in progress; may be called from a signal handler or another thread."""
        if not self._stopping:
            self._stopping = True
            self._source.close()

    def check_memory(self) -> None:
        """Give up learning from the batch in progress where memory is short: for a thread that watches meanwhile.

        A large batch on a small board takes longer than the kernel waits. What goes wrong here ends the run.
        """
        try:
            if self._guard is not None and self._learning and self._guard.must_not_wait():
                self._engine.interrupt()
        except Exception as error:
            self._failure = self._failure or error
            self.stop()

    def _given(self) -> Generator[Item | None, None, None]:
        """What the source gives, up to the limit; a failure of it waits until the frames so far are answered."""
        count = 0
        try:
            with closing(self._items()) as items:
                for item in items:
                    yield item
                    count += item is not None
                    if count == self._limit:
                        return
        except EcottaError as error:
            self._failure = self._failure or error

    def _items(self) -> Generator[Item | None, None, None]:
        if self._guard is not None and isinstance(self._source, Ticking):
            return self._source.ticking(self._guard.policy.check_every_s)
        return iter(self._source)

    def _take(self, item: Item | None) -> Iterator[Event]:
        """Ask the guard, then accept what came; None where nothing came for a while."""
        if item is not None:
            self._position = item.index
        yield from self._ladder.check(self._position)
        if isinstance(item, Refusal):
            self._lost = self._lost or isinstance(item, SourceLost)
            yield item
        elif item is not None:
            yield from self._accept(item)

    def _accept(self, frame: Frame) -> Iterator[Event]:
        """Let a frame wait, and answer when a batch is whole."""
        if self._lost:
            self._lost = False
            yield SourceBack(frame.index, frame.name)
        if self._ladder.level == Level.DROP:
            yield from self._drop(frame)
            return
        refusal = self._batching.add(frame)
        if refusal is not None:
            yield refusal
        elif self._batching.is_whole:
            yield from self._answer_waiting()

    def _drop(self, frame: Frame) -> Iterator[Event]:
        self._shed += 1
        yield Dropped(frame.index, frame.name, self.dropped)
        if self._guard is not None:
            # A camera drops the others itself, and a folder is not emptied in a second.
            self._clock.sleep_s(self._guard.policy.check_every_s)

    @property
    def dropped(self) -> int:
        """Frames that the source or the guard has dropped so far."""
        return self._source.dropped + self._shed

    def _answer_waiting(self) -> Iterator[Event]:
        """Answer what waits, on a lower level where there is no memory for it on this one."""
        batch, again = self._batching.take(), False
        while batch:
            events = self._answer(batch, again)
            if events is not None:
                yield from events
                return
            if again and self._stopping:  # not even an answer came in time
                yield from _refused(batch, "given up: the run was to end")
                return
            self._batching.put_back(batch)
            yield from self._ladder.check(self._position)
            batch, again = self._batching.take(), True  # empty where it was answered before everything was closed

    def _answer_the_last(self) -> Iterator[Event]:
        """Frames that wait for a whole batch are answered before all graphs are closed."""
        waiting = self._batching.take()
        self._batching.put_back(waiting)
        try:
            if waiting and self._ladder.level < Level.INFERENCE:
                self._ladder.go_to(Level.INFERENCE)
            yield from self._answer_waiting()
        except (InputFileError, MemoryError) as error:
            self._batching.take()
            yield from _refused(waiting, f"no memory to answer it: {error}")

    def _answer(self, batch: Sequence[Frame], again: bool) -> list[Event] | None:
        """What came of a batch; None where it was given up, or had no memory while a level is left that needs less.

        Nothing is tried anew in here: an error at hand keeps the graph alive that the guard is about to close.
        """
        act = self._policy.choose(batch, self._ladder.level, again=again)
        try:
            prediction = self._ask(batch, act)
        except BadFrames as error:
            return _refused(batch, str(error))
        except Interrupted:
            return None
        except BudgetExceeded as error:
            if not self._ladder.fell_short(error):
                raise
            return None
        summary = BatchAnswered(
            frames=len(batch),
            damaged=sum(frame.damaged for frame in batch),
            level=self._ladder.level,
            offered=act == "learn",
            adapted=prediction.adapted,
            why=prediction.why,
            followed=act != "hold",
        )
        answers = answers_to(batch, prediction, self._engine.class_names, self._clock.now_s(), self.dropped)
        return [summary, *answers]

    def _ask(self, batch: Sequence[Frame], act: Act) -> Prediction:
        frames = stacked(batch, self._engine.batch)
        if act == "learn":
            self._learning = True
            try:
                return self._engine(frames)
            finally:
                self._learning = False
        prediction = self._engine.predict(frames, hold_statistics=act == "hold", count=len(batch))
        return replace(prediction, why="damaged") if any(frame.damaged for frame in batch) else prediction


def _refused(batch: Sequence[Frame], why: str) -> list[Event]:
    return [Refusal(frame.index, frame.name, why) for frame in batch]
