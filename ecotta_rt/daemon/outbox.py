"""Where the daemon's events go: stamped with both clocks and the camera, to each taker."""

import time
from collections.abc import Callable, Iterable
from typing import Protocol

from ecotta_rt.events import Event, Stamped
from ecotta_rt.machine.clock import Clock

__all__ = ["Outbox", "Taker"]


class Taker(Protocol):
    """Takes stamped events from any thread, and keeps nobody waiting."""

    def take(self, event: Stamped, /) -> None:
        """Take note of it; raises nothing."""


class Outbox:
    """Stamps events and hands them on, from any thread.

    Args:
        clock: The one that dates frames.
        wall_s: Seconds since 1970, UTC.
    """

    def __init__(self, clock: Clock, wall_s: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._wall_s = wall_s
        self._takers: tuple[Taker, ...] = ()

    def hand_to(self, takers: Iterable[Taker]) -> None:
        """These get every event from now on, and nobody else."""
        self._takers = tuple(takers)  # at once, for threads that are telling something

    def tell(self, event: Event, camera: str | None = None, at_s: float | None = None) -> None:
        """Something has happened.

        Args:
            event: What.
            camera: Of which camera; None: of all of them.
            at_s: When, by the clock that dates frames; None: now.
        """
        now_s = self._clock.now_s()
        at_s = now_s if at_s is None else at_s
        stamped = Stamped(event, self._wall_s() - (now_s - at_s), at_s, camera)
        for taker in self._takers:
            taker.take(stamped)
