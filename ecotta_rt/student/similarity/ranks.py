"""Spearman's rank correlation, without scipy, which the host side does not install."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["ranks", "spearman"]


def ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ranks from 1, equal values sharing the mean of theirs. `values`: float64 `[N]`."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    shared: NDArray[np.float64] = (last - (counts - 1) / 2)[places.reshape(-1)]
    return shared


def spearman(left: NDArray[np.float64], right: NDArray[np.float64]) -> float:
    """Pearson's correlation of the ranks; 0 where all values of a side are the same.

    Args:
        left: float64 `[N]`, finite.
        right: The same.
    """
    a, b = (ranks(values) - (len(values) + 1) / 2 for values in (left, right))
    length = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / length if length > 0 else 0.0
