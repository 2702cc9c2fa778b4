"""Events that wait for somebody who reads them in another thread, or in an asyncio program."""

from collections import deque
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import suppress
from threading import Condition
from typing import TYPE_CHECKING

from ecotta_rt.events import EventsDropped, Stamped

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

__all__ = ["Inbox"]


class Inbox:
    """Holds events until they are read, by one reader.

    Args:
        most: Events that may wait.
        waits: Whether who brings an event waits for room; else the oldest is dropped, and the reader is told how many.
    """

    def __init__(self, most: int = 256, *, waits: bool = False) -> None:
        self._most, self._waits = most, waits
        self._waiting: deque[Stamped] = deque()
        self._dropped = 0
        self._closed = False
        self._changed = Condition()
        self._wake: Callable[[], None] = lambda: None

    def take(self, stamped: Stamped) -> None:
        """Let an event wait."""
        with self._changed:
            self._changed.wait_for(lambda: not self._waits or len(self._waiting) < self._most)
            if len(self._waiting) == self._most:
                self._waiting.popleft()
                self._dropped += 1
            self._waiting.append(stamped)
            self._changed.notify_all()
            self._wake()

    def let_go(self) -> None:
        """Nobody who brings an event waits any longer: the reader may have gone."""
        with self._changed:
            self._waits = False
            self._changed.notify_all()

    def close(self) -> None:
        """No more will come; what waits is still read."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            self._wake()

    def events(self) -> Generator[Stamped, None, None]:
        """What comes, until `close`."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closed)
                if not self._waiting:
                    return
                stamped = self._next()
            yield stamped

    async def events_async(self) -> AsyncGenerator[Stamped, None]:
        """What comes, until `close`, without a wait of the program that it is read in."""
        import asyncio

        loop, there = asyncio.get_running_loop(), asyncio.Event()
        with self._changed:
            self._wake = lambda: _call(loop, there.set)
        try:
            while True:
                with self._changed:
                    there.clear()
                    stamped, done = (self._next() if self._waiting else None), self._closed
                if stamped is not None:
                    yield stamped
                elif done:
                    return
                else:
                    await there.wait()
        finally:
            with self._changed:
                self._wake = lambda: None

    def _next(self) -> Stamped:
        """The oldest event, or how many were dropped before it."""
        self._changed.notify_all()
        if not self._dropped:
            return self._waiting.popleft()
        count, self._dropped, before = self._dropped, 0, self._waiting[0]
        return Stamped(EventsDropped("reader", count), before.time_s, before.monotonic_s)


def _call(loop: "AbstractEventLoop", what: Callable[[], None]) -> None:
    with suppress(RuntimeError):  # the program's loop has ended
        loop.call_soon_threadsafe(what)
