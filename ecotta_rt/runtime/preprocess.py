"""Make a frame of the network's size and colours of any picture, as its bundle says: for warm-up and device alike.

Shrinking averages over the area that an output pixel covers, so that nothing of the frame is skipped and fine texture
does not turn into noise; enlarging interpolates between the two nearest pixels. Each axis does what it needs by itself.
Scaling to [0, 1] and normalising are the graph's own work: frames stay uint8 up to its door.
"""

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecotta_rt.bundle import FrameSpec
from ecotta_rt.errors import BadFrames

__all__ = ["preprocess"]

_LUMA = np.array([19595, 38470, 7471], np.uint32)  # of red, green, blue; they sum to 2^16
"""ITU-R BT.601 luma in whole numbers, as Pillow's mode L has it."""

# Where an output pixel's sources begin, and their weights: whole numbers, the same sum for each output pixel.
_Taps = tuple[tuple[int, NDArray[np.int64]], ...]


def preprocess(pixels: NDArray[np.uint8], frame: FrameSpec) -> NDArray[np.uint8]:
    """Cut, resize and colour one picture.

    Args:
        pixels: uint8 `[H, W, 3]`, RGB; or grey, `[H, W]` or `[H, W, 1]`.
        frame: What the network takes.

    Returns:
        uint8 `[height, width, channels]`; `pixels` itself, or a view of it, where nothing has to change.

    Raises:
        BadFrames: Not uint8, not of those shapes, or without a pixel.
    """
    picture = _centre_crop(_require_picture(pixels), frame)
    if picture.shape[:2] != frame.size:
        picture = _resized(picture, frame.size)
    return _coloured(picture, frame.channels)


def _require_picture(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """The picture as `[H, W, 1]` or `[H, W, 3]`."""
    if not isinstance(pixels, np.ndarray):
        raise BadFrames(f"a {type(pixels).__name__}, expected a numpy array, uint8 [H, W, 3]")
    if pixels.dtype != np.uint8:
        raise BadFrames(f"{pixels.dtype} pixels, expected uint8 from 0 to 255, RGB")
    picture = pixels[:, :, None] if pixels.ndim == 2 else pixels
    if picture.ndim != 3 or picture.shape[2] not in (1, 3) or picture.size == 0:
        raise BadFrames(f"shape {list(pixels.shape)}, expected [H, W, 3] with at least one pixel, RGB; or [H, W], grey")
    return picture


def _resized(picture: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """All sums are of whole numbers, and exact: a host and a board that add up in another order get the same bytes."""
    by_rows, rows = _resample(picture, size[0], np.float32)
    summed, columns = _resample(by_rows.swapaxes(0, 1), size[1], np.float64)
    resized: NDArray[np.uint8] = np.rint(summed.swapaxes(0, 1) / (rows * columns)).astype(np.uint8)
    return resized


def _coloured(picture: NDArray[np.uint8], channels: int) -> NDArray[np.uint8]:
    if picture.shape[2] == channels:
        return picture
    if channels == 1:
        grey: NDArray[np.uint8] = ((picture @ _LUMA + (1 << 15)) >> 16).astype(np.uint8)
        return grey[:, :, None]
    return np.repeat(picture, channels, axis=2)


def _centre_crop(pixels: NDArray[np.uint8], frame: FrameSpec) -> NDArray[np.uint8]:
    """The part around the centre that becomes the frame, to the nearest whole pixel."""
    height, width = pixels.shape[:2]
    if frame.resize == "cover":
        if width * frame.height > height * frame.width:
            width = round(height * frame.width / frame.height)
        else:
            height = round(width * frame.height / frame.width)
    height, width = max(1, round(height * frame.crop)), max(1, round(width * frame.crop))
    top, left = (pixels.shape[0] - height) // 2, (pixels.shape[1] - width) // 2
    if pixels.shape[:2] == (height, width):
        return pixels
    return pixels[top : top + height, left : left + width]


def _resample(pixels: NDArray[Any], length: int, dtype: type[np.floating[Any]]) -> tuple[NDArray[Any], int]:
    """Bring the first axis to `length`: weighted sums of `dtype`, and what the weights of each sum up to."""
    if len(pixels) == length:
        return pixels, 1
    taps = _taps(len(pixels), length)
    resampled = np.empty((length, *pixels.shape[1:]), dtype)
    # One output row at a time: a whole camera picture in float32 would be 25 MB that a small board does not have.
    for row, (at, weights) in zip(resampled, taps, strict=True):
        covered = pixels[at : at + len(weights)].astype(dtype).reshape(len(weights), -1)
        np.matmul(weights.astype(dtype), covered, out=row.reshape(-1))
    return resampled, int(taps[0][1].sum())


@lru_cache(maxsize=16)
def _taps(source: int, target: int) -> _Taps:
    return tuple((_area if source > target else _between)(source, target, i) for i in range(target))


def _area(source: int, target: int, i: int) -> tuple[int, NDArray[np.int64]]:
    """Output pixel i covers [i, i + 1) * source / target; in units of 1 / target of a source pixel."""
    low, high = i * source, (i + 1) * source
    start, stop = low // target, -(-high // target)
    edges = np.clip(np.arange(start, stop + 1) * target, low, high)
    return start, np.diff(edges)


def _between(source: int, target: int, i: int) -> tuple[int, NDArray[np.int64]]:
    """The two source pixels around the centre of output pixel i; beyond the outermost centres the edge goes on.

    In units of 1 / (2 target) of a source pixel.
    """
    unit = 2 * target
    centre = min(max((2 * i + 1) * source - target, 0), (source - 1) * unit)
    start = min(centre // unit, max(source - 2, 0))
    share = centre - start * unit
    return start, np.array([unit - share, share] if source > 1 else [unit])
