"""How long all cases will take yet, by those that are done."""

import time

__all__ = ["Remaining"]


class Remaining:
    """An estimate.

    Args:
        cases: How many there are, over all streams and seeds.
    """

    def __init__(self, cases: int) -> None:
        self._cases, self._done, self._spent_s, self._began_s = cases, 0, 0.0, 0.0
        self._skipped = 0

    def skip(self, cases: int) -> None:
        """So many were done before."""
        self._skipped += cases

    def begin(self) -> None:
        """A case begins."""
        self._began_s = time.monotonic()

    def end(self) -> None:
        """It is over."""
        self._done += 1
        self._spent_s += time.monotonic() - self._began_s

    def __str__(self) -> str:
        left = self._cases - self._skipped - self._done
        if not left or not self._done:
            return "the last"
        minutes = left * self._spent_s / self._done / 60
        return (
            f"{left} to go, about {minutes:.0f} min" if minutes < 120 else f"{left} to go, about {minutes / 60:.1f} h"
        )
