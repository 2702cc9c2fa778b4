"""Motion blur as ImageMagick does it: a one-sided Gaussian trail of whole pixels, in one direction.

Source:
    `MotionBlurImage` of ImageMagick 6 and 7 (effect.c): the kernel has 2 ceil(radius) + 1 taps exp(-i^2 / 2 sigma^2),
    tap i lies i pixels away, rounded to the next whole pixel, and pixels outside the frame repeat the edge.
"""

from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["motion_blurred"]

NEGLIGIBLE = 1e-6  # share of the kernel: such a tap moves nothing by more than a tenth of a quantum
QUANTA = 257  # of ImageMagick's 16 bits to one of our 8; it rounds to its own and cuts off to ours


def motion_blurred(
    fields: NDArray[Any], angles_degrees: NDArray[np.float64], radius: int, sigma: float
) -> NDArray[np.uint8]:
    """Blur each field along its own direction.

    Args:
        fields: uint8 `[N, H, W]` or `[N, H, W, C]`.
        angles_degrees: `[N]`, as ImageMagick counts them.
        radius: Of the kernel, pixels: it has 2 radius + 1 taps.
        sigma: Of the kernel, pixels.

    Returns:
        uint8 of the same shape.
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
