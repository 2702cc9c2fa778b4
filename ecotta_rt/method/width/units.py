"""Channels by number, and which of them are kept or removed together."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["WHOLE", "Ids", "Units"]

Ids = NDArray[np.int64]
"""Numbers of channels, in the shape of the tensor they belong to."""

WHOLE = 0
"""The number of what has to stay."""


class Units:
    """Which numbers are kept or removed together: a union-find that keeps the smallest number as the name."""

    def __init__(self) -> None:
        self._parents: list[int] = [WHOLE]
        self.reasons: dict[int, str] = {}  # of numbers that were tied to 0: because of what

    def new(self, count: int) -> Ids:
        """Numbers that are not in use yet."""
        first = len(self._parents)
        self._parents.extend(range(first, first + count))
        return np.arange(first, first + count)

    def name(self, number: int) -> int:
        """The unit of a number: its smallest one."""
        while self._parents[number] != number:
            self._parents[number] = self._parents[self._parents[number]]
            number = self._parents[number]
        return number

    def table(self) -> Ids:
        """The name of each number."""
        return np.array([self.name(number) for number in range(len(self._parents))], np.int64)

    def names(self, ids: Ids) -> Ids:
        """The unit of each number."""
        flat, inverse = np.unique(ids, return_inverse=True)
        named: Ids = np.array([self.name(int(number)) for number in flat], np.int64)[inverse].reshape(ids.shape)
        return named

    def join(self, one: Ids, other: Ids) -> None:
        """Let numbers at the same place be one unit."""
        pairs = np.unique(np.stack([np.ravel(one), np.ravel(other)]), axis=1)
        for a, b in pairs.T:
            low, high = sorted((self.name(int(a)), self.name(int(b))))
            self._parents[high] = low

    def keep_whole(self, ids: Ids, reason: str = "") -> None:
        """Let them stay, for a reason."""
        for number in np.unique(ids):
            if reason and self.name(int(number)) != WHOLE:
                self.reasons[int(number)] = reason
        self.join(ids, np.zeros_like(ids))
