"""What is asked of a daemon from other threads and from signal handlers, until its one thread comes to it."""

from collections.abc import Callable
from threading import Lock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ecotta_rt.daemon.work import Work

__all__ = ["Wish", "Wishes"]

Wish = Callable[["Work"], None]


class Wishes:
    """Keeps the last wish of a kind for each camera, so that there are never many.

    Attributes:
        reload: Whether the configuration is to be read again; no more than a flag, since a signal handler sets it: one
            that waits for a lock of the thread that it interrupts waits for ever.
    """

    def __init__(self) -> None:
        self.reload = False
        self._lock = Lock()
        self._kept: dict[tuple[str, str], Wish] = {}

    def add(self, kind: str, camera: str, wish: Wish) -> None:
        """Wish for something, in place of the last of this kind and camera; from any thread."""
        with self._lock:
            self._kept[kind, camera] = wish

    def next(self) -> Wish | None:
        """The one that waits longest; None: there is none."""
        with self._lock:
            return self._kept.pop(next(iter(self._kept))) if self._kept else None
