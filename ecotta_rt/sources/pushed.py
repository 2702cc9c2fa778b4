"""Pictures that a program has itself: it hands them over, and the newest is the stream's next frame."""

from collections.abc import Generator
from threading import Condition

import numpy as np
from numpy.typing import NDArray

from ecotta_rt.events import Item
from ecotta_rt.machine.clock import Clock, SystemClock
from ecotta_rt.records import Frame

__all__ = ["Pushed"]


class Pushed:
    """A source, for one iteration, that somebody else's thread puts pictures into.

    Args:
        clock: Dates the pictures.

    Attributes:
        dropped: Pictures that a newer one replaced before anybody took them.
    """

    def __init__(self, clock: Clock | None = None) -> None:
        self.dropped = 0
        self._clock = clock or SystemClock()
        self._changed = Condition()
        self._frame: Frame | None = None
        self._count = 0
        self._closed = False

    def put(self, pixels: NDArray[np.uint8], name: str = "") -> None:
        """Hand over a picture; from any thread, and without a wait.

        Args:
            pixels: uint8 `[H, W, 3]` RGB, or grey `[H, W]`; held, not copied.
            name: What answers call it.
        """
        with self._changed:
            self.dropped += self._frame is not None
            self._frame = Frame(pixels, self._count, self._clock.now_s(), name)
            self._count += 1
            self._changed.notify()

    def __iter__(self) -> Generator[Item, None, None]:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._frame is not None or self._closed)
                frame, self._frame = self._frame, None
            if frame is None:
                return
            yield frame

    def close(self) -> None:
        """No more pictures come; the one that waits is still answered."""
        with self._changed:
            self._closed = True
            self._changed.notify()
