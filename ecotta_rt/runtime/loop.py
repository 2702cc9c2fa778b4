"""Source -> batches -> network -> events, and nothing else.

    for event in Loop(source, engine):
        sink.take(event)

What can go wrong with one frame is an event, and the stream goes on. Everything around it is a sink: counting, saving
the state, showing progress, writing answers.

A guard is asked with each frame, so before each batch, and steps are made between batches: a frame that was accepted is
answered, whatever the level. While no frame comes it is asked as well, where the source is `Ticking`. While a batch is
learned from, `check_memory` gives the learning up where memory is short, and the batch is answered without.
"""

from collections.abc import Generator
from contextlib import closing
from typing import TYPE_CHECKING

from ecotta_rt.bundle import Resize
from ecotta_rt.errors import EcottaError, UsageError
from ecotta_rt.events import Dropped, Event, Item, StreamEnded
from ecotta_rt.machine.clock import Clock, SystemClock
from ecotta_rt.runtime.answering import Answering
from ecotta_rt.runtime.guard import Guard
from ecotta_rt.runtime.ladder import Ladder
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
        if limit is not None and limit < 1:
            raise UsageError(f"limit {limit}: give 1 frame or more")
        self._source = source
        self._limit = limit
        self._clock = clock or SystemClock()
        self._guard = guard
        self._ladder = Ladder(engine, guard)
        self._answering = Answering(
            engine,
            self._ladder,
            adapt_every=adapt_every,
            resize=resize,
            clock=self._clock,
            dropped=lambda: source.dropped,
            stopping=lambda: self._stopping,
        )
        self._stopping = False
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
            yield from self._answering.end()
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
            self._ladder.check_memory()
        except Exception as error:
            self._failure = self._failure or error
            self.stop()

    @property
    def dropped(self) -> int:
        """Frames that the source or the guard has dropped so far."""
        return self._answering.dropped

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

    def _take(self, item: Item | None) -> Generator[Event, None, None]:
        for event in self._answering.take(item):
            yield event
            if isinstance(event, Dropped) and self._guard is not None:
                # A camera drops the others itself, and a folder is not emptied in a second.
                self._clock.sleep_s(self._guard.policy.check_every_s)
