"""The newest frame wins: a hand-over between a thread that captures and a loop that may be slower.

One slot holds one frame. The thread replaces what waits there and counts it as dropped; the loop takes it. So the loop
always sees what is there now, and neither a queue nor the picture's age grows.
"""

from collections.abc import Generator
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from threading import Thread

from ecotta_rt.events import Item
from ecotta_rt.sources.source import Source

__all__ = ["Newest"]

_JOIN_S = 0.5  # a camera that is alive lets go within a frame


@dataclass(frozen=True)
class _End:
    error: BaseException | None = None


class Newest:
    """A source, for one iteration, that never makes the one inside it wait. The last frame of a stream is not dropped.

    Args:
        source: A live one; it is iterated in a thread of its own and nowhere else.

    Attributes:
        dropped: Frames that were replaced before anybody took them.
    """

    def __init__(self, source: Source) -> None:
        self.dropped = 0
        self._source = source
        # Its `put` may be called in a signal handler that interrupts a `get`, which no lock of ours could allow.
        self._slot: SimpleQueue[Item | _End] = SimpleQueue()

    def __iter__(self) -> Generator[Item, None, None]:
        """Raises what the source inside raised."""
        for item in self.ticking(None):
            if item is not None:
                yield item

    def ticking(self, every_s: float | None) -> Generator[Item | None, None, None]:
        """Iterate, with None after each `every_s` seconds without a frame; raises what the source inside raised."""
        # A daemon: a camera that hangs in a read must not keep the process alive.
        thread = Thread(target=self._capture, name="capture", daemon=True)
        thread.start()
        try:
            while not isinstance(item := self._wait(every_s), _End):
                yield item
            if item.error is not None:
                raise item.error
        finally:
            self.close()
            thread.join(_JOIN_S)

    def _wait(self, most_s: float | None) -> "Item | _End | None":
        try:
            return self._slot.get(timeout=most_s)
        except Empty:
            return None

    def close(self) -> None:
        self._source.close()
        self._slot.put(_End())

    def _capture(self) -> None:
        error: BaseException | None = None
        try:
            for item in self._source:
                self._replace(item)
        except BaseException as raised:  # raised again where the frames are taken
            error = raised
        self._slot.put(_End(error))

    def _replace(self, item: Item) -> None:
        try:
            old = self._slot.get_nowait()
        except Empty:
            pass
        else:
            if isinstance(old, _End):  # closed meanwhile
                self._slot.put(old)
                return
            self.dropped += 1
        self._slot.put(item)
