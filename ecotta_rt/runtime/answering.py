"""One stream's frames in, events out: batches, the network, and what can go wrong with one frame.

    answering = Answering(engine, Ladder(engine, guard))
    for item in source:
        for event in answering.take(item):
            sink.take(event)

`Loop` takes the frames out of one source; who has several cameras hands each frame to the `Answering` of its camera.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING, Any, Protocol

from numpy.typing import NDArray

from ecotta_rt.bundle import Resize
from ecotta_rt.errors import BadFrames, BudgetExceeded, InputFileError, UsageError
from ecotta_rt.events import BatchAnswered, Dropped, Event, Item, Refusal, SourceBack, SourceLost
from ecotta_rt.machine.clock import Clock, SystemClock
from ecotta_rt.records import Frame, Level, Prediction
from ecotta_rt.runtime.answers import answers_to
from ecotta_rt.runtime.batching import Batching, stacked
from ecotta_rt.runtime.ladder import Ladder
from ecotta_rt.runtime.learning import Act, LearningPolicy
from ecotta_rt.session.interrupted import Interrupted

if TYPE_CHECKING:
    from ecotta_rt.runtime.engine import Runtime
    from ecotta_rt.runtime.stream import Stream

__all__ = ["Answering", "Watch"]


class Watch(Protocol):
    """Looks at each batch that was answered."""

    def take(self, frames: NDArray[Any], prediction: Prediction, position: int, count: int) -> Iterator[Event]:
        """What there is to say of a batch.

        Args:
            frames: As the engine was given them.
            prediction: What was said of them.
            position: Of the last of them in the stream.
            count: How many there are; those behind them only fill the batch.
        """


class Answering:
    """Answers one stream, frame by frame.

    Args:
        engine: Answers the frames.
        ladder: Says how much is done for a batch; several streams of one engine share it.
        stream: The engine's stream that this is; None: whichever is in use.
        adapt_every: Learn from each n-th batch, answer the others only; 0: never learn.
        resize: How pictures of another shape become frames; None: as the network's bundle says.
        top: How many of the most probable classes an answer names in `Answer.top`.
        clock: The one that the source dates its frames with.
        dropped: Frames that the source has dropped so far.
        stopping: Whether the run is to end: then no batch is tried a third time.
        watch: Is shown each batch once it is answered; what it tells comes after the answers.

    Attributes:
        adapting: Off: frames are answered, and nothing that the stream has taught moves.

    Raises:
        UsageError: A number out of range.
    """

    def __init__(
        self,
        engine: "Runtime",
        ladder: Ladder,
        *,
        stream: "Stream | None" = None,
        adapt_every: int = 1,
        resize: Resize | None = None,
        top: int = 0,
        clock: Clock | None = None,
        dropped: Callable[[], int] = lambda: 0,
        stopping: Callable[[], bool] = lambda: False,
        watch: Watch | None = None,
    ) -> None:
        if adapt_every < 0:
            raise UsageError(f"adapt every {adapt_every}: give 1 for each batch, n for each n-th, 0 for none")
        if top < 0:
            raise UsageError(f"top {top}: give how many classes an answer is to name, 0 for none")
        self.adapting = True
        self._engine, self._ladder, self._stream = engine, ladder, stream
        self._clock = clock or SystemClock()
        self._source_dropped, self._stopping, self._watch = dropped, stopping, watch
        self._batching = Batching(engine.frame, engine.batch)
        self.ask_for(resize=resize, top=top)
        self._policy = LearningPolicy(adapt_every, ladder.sparse_every, engine.batch)
        self._position = self._shed = 0
        self._lost_s: float | None = None

    def ask_for(self, *, resize: Resize | None, top: int) -> None:
        """From the next frame on, other frames and answers; the stream goes on as it was. See the arguments."""
        self._batching.frame = self._engine.frame if resize is None else replace(self._engine.frame, resize=resize)
        self._top = top

    def take(self, item: Item | None) -> Iterator[Event]:
        """Ask the guard, then accept what came, and answer when a batch is whole.

        Args:
            item: What the source gave; None where nothing came for a while.

        Yields:
            What came of it, in the order in which it happened.

        Raises:
            EcottaError: The engine cannot go on.
        """
        if item is not None:
            self._position = item.index
        yield from self._check()
        if isinstance(item, Refusal):
            if isinstance(item, SourceLost) and self._lost_s is None:
                self._lost_s = self._clock.now_s()
            yield item
        elif item is not None:
            yield from self._accept(item)

    def end(self) -> Iterator[Event]:
        """Answer the frames that wait for the rest of their batch."""
        yield from self._answer_waiting()

    @property
    def dropped(self) -> int:
        """Frames that the source or the guard has dropped so far."""
        return self._source_dropped() + self._shed

    def _check(self) -> Iterator[Event]:
        return self._ladder.check(self._position, self._answer_the_last)

    def _accept(self, frame: Frame) -> Iterator[Event]:
        """Let a frame wait, and answer when a batch is whole."""
        if self._lost_s is not None:
            lost_s, self._lost_s = self._clock.now_s() - self._lost_s, None
            yield SourceBack(frame.index, frame.name, lost_s)
        if self._ladder.level == Level.DROP:
            self._shed += 1
            yield Dropped(frame.index, frame.name, self.dropped)
            return
        refusal = self._batching.add(frame)
        if refusal is not None:
            yield refusal
        elif self._batching.is_whole:
            yield from self._answer_waiting()

    def _answer_waiting(self) -> Iterator[Event]:
        """Answer what waits, on a lower level where there is no memory for it on this one."""
        batch, again = self._batching.take(), False
        while batch:
            events = self._answer(batch, again)
            if events is not None:
                yield from events
                return
            if again and self._stopping():  # not even an answer came in time
                yield from _refused(batch, "given up: the run was to end")
                return
            self._batching.put_back(batch)
            yield from self._check()
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

    def _answer(self, batch: Sequence[Frame], again: bool) -> Iterable[Event] | None:
        """What came of a batch; None where it was given up, or had no memory while a level is left that needs less.

        Nothing is tried anew in here: an error at hand keeps the graph alive that the guard is about to close.
        """
        act = self._policy.choose(batch, self._ladder.level, again=again) if self.adapting else "hold"
        try:
            frames = stacked(batch, self._engine.batch)
            prediction = self._ask(frames, batch, act)
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
        names, now_s = self._engine.class_names, self._clock.now_s()
        answers = answers_to(batch, prediction, names, now_s, self.dropped, self._top)
        seen = self._watch.take(frames, prediction, batch[-1].index, len(batch)) if self._watch else ()
        return chain((summary,), answers, seen)  # a look of the watch may take a step: answers do not wait for it

    def _ask(self, frames: NDArray[Any], batch: Sequence[Frame], act: Act) -> Prediction:
        if self._stream is not None:
            self._engine.use(self._stream)
        if act == "learn":
            with self._ladder.learning():
                return self._engine(frames)
        prediction = self._engine.predict(frames, hold_statistics=act == "hold", count=len(batch))
        return replace(prediction, why="damaged") if any(frame.damaged for frame in batch) else prediction


def _refused(batch: Sequence[Frame], why: str) -> list[Event]:
    return [Refusal(frame.index, frame.name, why) for frame in batch]
