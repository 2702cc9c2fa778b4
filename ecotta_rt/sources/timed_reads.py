"""Reads that may hang for ever, such as those of a driver: in a thread that can be left behind.

No thread can be ended from outside. One that hangs is left where it is, and ends when its read does; there are never
more than `MOST_LEFT` of them for a camera.
"""

from collections.abc import Callable, Generator
from contextlib import closing, suppress
from dataclasses import dataclass
from queue import Empty, Queue
from threading import Thread
from typing import Generic, TypeVar

from ecotta_rt.errors import Unavailable

__all__ = ["MOST_LEFT", "TimedReads"]

MOST_LEFT = 3
"""Threads left behind at most, for a camera; while there are so many, nothing new is tried."""

T = TypeVar("T")


@dataclass(frozen=True)
class _End:
    error: BaseException | None = None


class TimedReads(Generic[T]):
    """Opens what `connect` opens, as often as asked, and waits for each of its pictures so long and no longer.

    Args:
        connect: Opens the camera and yields what it shows; it is iterated in a thread of its own.
        hang_s: Longest wait for a picture, the first one included.

    Attributes:
        left: Threads that were left behind so far.
    """

    def __init__(self, connect: Callable[[], Generator[T, None, None]], hang_s: float) -> None:
        self.left = 0
        self._connect = connect
        self._hang_s = hang_s
        self._hanging: list[Thread] = []

    def __call__(self) -> Generator[T, None, None]:
        """Raises what `connect` raises, and `Unavailable` where a read hangs."""
        self._hanging = [thread for thread in self._hanging if thread.is_alive()]
        if len(self._hanging) >= MOST_LEFT:
            raise Unavailable(f"{MOST_LEFT} reads hang in its driver, and no more are begun; unplug it, or start again")
        reading = _Reading(self._connect)
        # A daemon: what hangs must not keep the process alive.
        thread = Thread(target=reading.read, name="camera", daemon=True)
        thread.start()
        try:
            yield from reading.pictures(self._hang_s)
        except _Hangs:
            self.left += 1
            self._hanging.append(thread)
            raise Unavailable(f"no picture for {self._hang_s:g} s; the read that hangs is left behind") from None
        finally:
            reading.stop()


class _Hangs(Exception):
    pass


class _Reading(Generic[T]):
    """One connection: a thread that reads, and a slot for one picture between it and who takes them."""

    def __init__(self, connect: Callable[[], Generator[T, None, None]]) -> None:
        self._connect = connect
        self._slot: Queue[T | _End] = Queue(1)
        self._stopped = False

    def read(self) -> None:
        end = _End()
        try:
            with closing(self._connect()) as shown:
                for picture in shown:
                    if not self._put(picture):
                        return
        except BaseException as raised:  # raised again where the pictures are taken
            end = _End(raised)
        self._put(end)

    def _put(self, item: T | _End) -> bool:
        """Wait for the slot to be free; whether more are wanted."""
        if not self._stopped:
            self._slot.put(item)
        return not self._stopped

    def pictures(self, hang_s: float) -> Generator[T, None, None]:
        while not isinstance(item := self._next(hang_s), _End):
            yield item
        try:
            if item.error is not None:
                raise item.error
        finally:
            del item  # the error holds this frame now, and is not to be held by it

    def _next(self, hang_s: float) -> T | _End:
        try:
            return self._slot.get(timeout=hang_s)
        except Empty:
            raise _Hangs from None

    def stop(self) -> None:
        """No more is wanted: whoever waits for the slot gets it, and sees that."""
        self._stopped = True
        with suppress(Empty):
            self._slot.get_nowait()
