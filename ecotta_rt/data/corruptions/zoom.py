"""Zooming into the middle of a frame, as a pair of small matrices.

The authors cut out the middle, enlarge it with `scipy.ndimage.zoom(order=1)` and trim the result. That is linear and
the same for every frame, so here it is one matrix, applied from the left to rows and from the right to columns: the
whole batch at once.
"""

from functools import cache
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["zoom_matrix", "zoomed"]


def zoomed(fields: NDArray[np.floating[Any]], factor: float) -> NDArray[np.floating[Any]]:
    """Enlarge the middle of square fields `[N, S, S]` or `[N, S, S, C]` by `factor` >= 1; the size stays."""
    matrix = zoom_matrix(fields.shape[1], factor).astype(fields.dtype)
    rows: NDArray[Any] = np.matmul(matrix, fields.reshape(len(fields), len(matrix), -1)).reshape(fields.shape)
    enlarged: NDArray[Any] = rows @ matrix.T if fields.ndim == 3 else np.matmul(matrix, rows)
    return enlarged


@cache
def zoom_matrix(side: int, factor: float) -> NDArray[np.float64]:
    """Linear interpolation from the whole side to its enlarged middle, float64 `[side, side]`."""
    cut = ceil(side / factor)
    first = (side - cut) // 2
    enlarged = round(cut * factor)
    trim = (enlarged - side) // 2
    # Corner to corner, as scipy.ndimage.zoom places its samples (grid_mode=False).
    places = np.arange(trim, trim + side) * ((cut - 1) / (enlarged - 1))
    left = np.minimum(places.astype(int), cut - 2)
    matrix = np.zeros((side, side))
    matrix[np.arange(side), first + left] = 1 - (places - left)
    matrix[np.arange(side), first + left + 1] = places - left
    return matrix
