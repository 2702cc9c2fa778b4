"""What may stand in `weights.bin`: finite numbers, and zeros between the arrays."""

from collections.abc import Sequence

import numpy as np

from ecotta_rt.bundle.manifest import WeightEntry
from ecotta_rt.errors import InputFileError

__all__ = ["WeightBytes"]


class WeightBytes:
    """Looks at `weights.bin` piece by piece, from its beginning to its end.

    Args:
        entries: The arrays in it; no two overlap, and the last one ends it.
        origin: The file's name, for messages.
    """

    def __init__(self, entries: Sequence[WeightEntry], origin: str) -> None:
        self._entries = sorted((entry for entry in entries if entry.bytes), key=lambda entry: entry.offset)
        self._origin = origin
        self._at = 0
        ends = [0, *(entry.offset + entry.bytes for entry in self._entries)]
        starts = (entry.offset for entry in self._entries)
        self._gaps = [(end, start) for end, start in zip(ends, starts, strict=False) if end < start]
        self._gaps.reverse()  # the next one last

    def take(self, piece: memoryview) -> None:
        """Look at the next piece; all but the last are a multiple of 4 bytes long.

        Raises:
            InputFileError: NaN or infinity in an array, or anything but zeros beside them.
        """
        begin, self._at = self._at, self._at + len(piece)
        while self._gaps and self._gaps[-1][0] < self._at:
            start, stop = self._gaps[-1]
            if any(piece[max(start - begin, 0) : stop - begin]):
                raise InputFileError(f"{self._origin}: bytes {start} to {stop} lie between two arrays and are not zero")
            if stop > self._at:
                break
            self._gaps.pop()
        # Arrays begin at multiples of 64 and zeros are finite, so all of it may be looked at as numbers.
        finite = np.isfinite(np.frombuffer(piece[: len(piece) // 4 * 4], "<f4"))
        if not finite.all():
            place = begin + 4 * int(finite.argmin())
            name = next(entry.name for entry in reversed(self._entries) if entry.offset <= place)
            raise InputFileError(
                f"{self._origin}: weight {name!r} holds NaN or infinity (at byte {place}); no answer would be a number"
            )
