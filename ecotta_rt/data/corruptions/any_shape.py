"""Corrupt frames of any shape, grey ones too."""

import numpy as np
from numpy.typing import NDArray

from ecotta_rt.data.corruptions import corrupt

__all__ = ["SAMPLE", "corrupt_any"]

SAMPLE = ("gaussian_noise", "defocus_blur", "fog", "contrast", "jpeg_compression")
"""Of each family one, and contrast: what is tried where nobody says which."""


def corrupt_any(
    frames: NDArray[np.uint8], corruption: str, *, severity: int, seed: int, indices: NDArray[np.int64] | None = None
) -> NDArray[np.uint8]:
    """As `corrupt`, for frames uint8 `[N, H, W, C]`: mirrored at their edges to a square; grey ones as colour and back.

    The longer side has at least `SMALLEST_SIDE` pixels.
    """
    height, width, channels = frames.shape[1:]
    side = max(height, width)
    top, left = (side - height) // 2, (side - width) // 2
    edges = ((0, 0), (top, side - height - top), (left, side - width - left), (0, 0))
    square = np.pad(frames, edges, mode="symmetric") if height != width else frames
    colour = np.ascontiguousarray(np.broadcast_to(square, (*square.shape[:3], 3)))
    made = corrupt(colour, corruption, severity=severity, seed=seed, indices=indices)
    return np.ascontiguousarray(made[:, top : top + height, left : left + width, :channels])
