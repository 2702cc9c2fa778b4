"""Bring a frame of any size to the network's size.

Shrinking averages over the area that an output pixel covers, so that nothing of the frame is skipped and fine texture
does not turn into noise; enlarging interpolates between the two nearest pixels. Each axis does what it needs by itself.
Scaling to [0, 1] and normalising are the graph's own work: frames stay uint8 up to its door.
"""

from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ecotta_rt.errors import BadFrames

__all__ = ["FITS", "Fit", "preprocess"]

Fit = Literal["cover", "stretch"]
"""How a frame of another shape is made to fit:

    cover      cut to the network's aspect ratio around the centre; what is left keeps its proportions
    stretch    keep all of it; proportions change
"""

FITS: tuple[Fit, ...] = ("cover", "stretch")

# Where an output pixel's sources begin, and their weights, float32, which sum to 1.
_Taps = tuple[tuple[int, NDArray[np.float32]], ...]


def preprocess(pixels: NDArray[np.uint8], size: tuple[int, int], fit: Fit = "cover") -> NDArray[np.uint8]:
    """Resize one frame.

    Args:
        pixels: uint8 `[H, W, 3]`, RGB.
        size: Height and width of the result, in pixels.
        fit: One of `FITS`.

    Returns:
        uint8 `[height, width, 3]`; `pixels` itself where the size is right already.

    Raises:
        BadFrames: Not uint8, not of that shape, or without a pixel.
    """
    _require_frame(pixels)
    if pixels.shape[:2] == size:
        return pixels
    if fit == "cover":
        pixels = _centre_crop(pixels, size)
    by_rows = _resample(pixels, size[0])
    resized: NDArray[np.uint8] = np.rint(_resample(by_rows.swapaxes(0, 1), size[1]).swapaxes(0, 1)).astype(np.uint8)
    return resized


def _require_frame(pixels: NDArray[Any]) -> None:
    if not isinstance(pixels, np.ndarray):
        raise BadFrames(f"a {type(pixels).__name__}, expected a numpy array, uint8 [H, W, 3]")
    if pixels.dtype != np.uint8:
        raise BadFrames(f"{pixels.dtype} pixels, expected uint8 from 0 to 255, RGB")
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.size == 0:
        raise BadFrames(f"shape {list(pixels.shape)}, expected [H, W, 3] with at least one pixel, RGB")


def _centre_crop(pixels: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """The largest part around the centre that has the aspect ratio of `size`, to the nearest whole pixel."""
    (height, width), (to_height, to_width) = pixels.shape[:2], size
    if width * to_height > height * to_width:
        keep = max(1, round(height * to_width / to_height))
        left = (width - keep) // 2
        return pixels[:, left : left + keep]
    keep = max(1, round(width * to_height / to_width))
    top = (height - keep) // 2
    return pixels[top : top + keep]


def _resample(pixels: NDArray[Any], length: int) -> NDArray[Any]:
    """Bring the first axis to `length`; float32, or as it came where it has that length."""
    if len(pixels) == length:
        return pixels
    # One output row at a time: a whole camera picture in float32 would be 25 MB that a small board does not have.
    rows = [np.tensordot(weights, pixels[at : at + len(weights)], axes=1) for at, weights in _taps(len(pixels), length)]
    return np.stack(rows)


@lru_cache(maxsize=16)
def _taps(source: int, target: int) -> _Taps:
    return tuple((_area if source > target else _between)(source, target, i) for i in range(target))


def _area(source: int, target: int, i: int) -> tuple[int, NDArray[np.float32]]:
    """Output pixel i covers [i, i + 1) * source / target. Whole numbers, in units of 1 / target of a source pixel."""
    low, high = i * source, (i + 1) * source
    start, stop = low // target, -(-high // target)
    edges = np.clip(np.arange(start, stop + 1) * target, low, high)
    return start, (np.diff(edges) / source).astype(np.float32)


def _between(source: int, target: int, i: int) -> tuple[int, NDArray[np.float32]]:
    """The two source pixels around the centre of output pixel i; beyond the outermost centres the edge goes on."""
    centre = min(max((i + 0.5) * source / target - 0.5, 0.0), source - 1.0)
    start = min(int(centre), max(source - 2, 0))
    share = centre - start
    return start, np.array([1 - share, share] if source > 1 else [1.0], np.float32)
