"""What several corruptions do with pixels: to the unit interval and back as the authors did, trails, and zooms."""

from functools import cache
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Floats", "Frames", "motion_blurred", "to_bytes", "to_unit", "zoom_matrix", "zoomed"]

Frames = NDArray[np.uint8]  # [N, H, W, 3]
Floats = NDArray[np.float64]

NEGLIGIBLE = 1e-6  # share of the kernel of a trail: such a tap moves nothing by more than a tenth of a quantum
QUANTA = 257  # of ImageMagick's 16 bits to one of our 8; it rounds to its own and cuts off to ours


def to_unit(frames: Frames) -> Floats:
    """Bytes 0 to 255 as float64 from 0 to 1."""
    return frames / 255.0


def to_bytes(values: NDArray[np.floating[Any]]) -> Frames:
    """Values in the unit interval as bytes: clipped, then cut off, not rounded, as CIFAR-10-C was written."""
    scaled: NDArray[Any] = np.clip(values, 0, 1) * 255
    return scaled.astype(np.uint8)


def motion_blurred(
    fields: NDArray[Any], angles_degrees: NDArray[np.float64], radius: int, sigma: float
) -> NDArray[np.uint8]:
    """Blur each field along its own direction, as ImageMagick does: a one-sided Gaussian trail of whole pixels.

    Args:
        fields: uint8 `[N, H, W]` or `[N, H, W, C]`.
        angles_degrees: `[N]`, as ImageMagick counts them.
        radius: Of the kernel, pixels: it has 2 radius + 1 taps.
        sigma: Of the kernel, pixels.

    Returns:
        uint8 of the same shape.

    Source:
        `MotionBlurImage` of ImageMagick 6 and 7 (effect.c): the kernel has 2 ceil(radius) + 1 taps
        exp(-i^2 / 2 sigma^2), tap i lies i pixels away, rounded to the next whole pixel, and pixels outside the frame
        repeat the edge.
    """
    taps = np.arange(2 * ceil(radius) + 1)
    weights = np.exp(-(taps**2) / (2 * sigma**2))
    weights /= weights.sum()
    taps, weights = taps[weights > NEGLIGIBLE], weights[weights > NEGLIGIBLE].astype(np.float32)
    radians = np.deg2rad(angles_degrees)[:, None]
    # Towards minus infinity at .5, as ceil(x - 0.5) does.
    columns = np.ceil(taps * np.cos(radians) - 0.5).astype(int)
    rows = np.ceil(taps * np.sin(radians) - 0.5).astype(int)
    border = int(taps[-1])
    rest = [(0, 0)] * (fields.ndim - 3)
    padded = np.pad(fields, [(0, 0), (border, border), (border, border), *rest], mode="edge").astype(np.float32)
    blurred = np.zeros(fields.shape, np.float32)
    height, width = fields.shape[1:3]
    # Over images in the outer loop: each takes its own shifts, and a shift is a view.
    for image, (frame, trail) in enumerate(zip(padded, blurred, strict=True)):
        for weight, row, column in zip(weights, rows[image] + border, columns[image] + border, strict=True):
            trail += weight * frame[row : row + height, column : column + width]
    return (np.rint(blurred * QUANTA) // QUANTA).astype(np.uint8)


def zoomed(fields: NDArray[np.floating[Any]], factor: float) -> NDArray[np.floating[Any]]:
    """Enlarge the middle of square fields `[N, S, S]` or `[N, S, S, C]` by `factor` >= 1; the size stays.

    The authors cut out the middle, enlarge it with `scipy.ndimage.zoom(order=1)` and trim the result. That is linear
    and the same for every frame, so here it is one matrix, applied from the left to rows and from the right to columns:
    the whole batch at once.
    """
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
