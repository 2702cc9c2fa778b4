"""Where the means and variances of all channels lie in a vector of statistics."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ecotta_rt.errors import UsageError

__all__ = ["Channels", "Moments"]

Floats = NDArray[np.float32]
Indices = NDArray[np.intp]


class Moments(NamedTuple):
    """Of all channels, each float32 `[C]`."""

    means: Floats
    variances: Floats


@dataclass(frozen=True, eq=False)
class Channels:
    """Channels of all norms, one behind the other, and their two places in the vector.

    Attributes:
        norms: Name of each norm, in order.
        sizes: How many channels each has.
        means: intp `[C]`, where the mean of each channel is.
        variances: intp `[C]`, where its variance is.
    """

    norms: tuple[str, ...]
    sizes: tuple[int, ...]
    means: Indices
    variances: Indices

    @classmethod
    def of(cls, arrays: Iterable[tuple[str, int]]) -> "Channels":
        """From what the vector is made of.

        Args:
            arrays: Name and length of each array in the vector: `NORM.mean` and `NORM.variance`, of equal length, in
                any order.

        Raises:
            UsageError: Another name, or one of the two is missing or of another length.
        """
        found: dict[str, dict[str, Indices]] = {}
        start = 0
        for name, count in arrays:
            norm, _, what = name.rpartition(".")
            if what not in ("mean", "variance") or not norm:
                raise UsageError(f"{name!r} is no statistic: expected NORM.mean and NORM.variance")
            found.setdefault(norm, {})[what] = np.arange(start, start + count)
            start += count
        for norm, places in found.items():
            if places.keys() != {"mean", "variance"} or len(places["mean"]) != len(places["variance"]):
                raise UsageError(f"norm {norm!r} needs a mean and a variance for each channel")
        means, variances = (_joined(places[what] for places in found.values()) for what in ("mean", "variance"))
        return cls(tuple(found), tuple(len(places["mean"]) for places in found.values()), means, variances)

    def moments(self, vector: Floats) -> Moments:
        """Copies of the means and variances in a vector of statistics, or in what was seen in a frame."""
        return Moments(vector[self.means], vector[self.variances])

    def put(self, moments: Moments, vector: Floats) -> None:
        """Write means and variances where they are in a vector of statistics."""
        vector[self.means], vector[self.variances] = moments

    def part(self, norm: str) -> slice:
        """Where the channels of one norm are among all.

        Raises:
            UsageError: No norm of that name.
        """
        if norm not in self.norms:
            raise UsageError(f"norm {norm!r} is none of those whose statistics follow")
        index = self.norms.index(norm)
        start = sum(self.sizes[:index])
        return slice(start, start + self.sizes[index])

    @property
    def count(self) -> int:
        """C, the channels of all norms."""
        return len(self.means)

    def each(self, by_norm: Iterable[float]) -> NDArray[np.float32]:
        """A number a norm as one a channel, float32 `[C]`."""
        return np.repeat(np.array(tuple(by_norm), np.float32), self.sizes)


def _joined(places: Iterable[Indices]) -> Indices:
    return np.concatenate([np.empty(0, np.intp), *places])
