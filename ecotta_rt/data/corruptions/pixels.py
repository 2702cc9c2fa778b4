"""Between bytes and the unit interval, and back the way the benchmark's authors went."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Floats", "Frames", "to_bytes", "to_unit"]

Frames = NDArray[np.uint8]  # [N, H, W, 3]
Floats = NDArray[np.float64]


def to_unit(frames: Frames) -> Floats:
    """Bytes 0 to 255 as float64 from 0 to 1."""
    return frames / 255.0


def to_bytes(values: NDArray[np.floating[Any]]) -> Frames:
    """Values in the unit interval as bytes: clipped, then cut off, not rounded, as CIFAR-10-C was written."""
    scaled: NDArray[Any] = np.clip(values, 0, 1) * 255
    return scaled.astype(np.uint8)
