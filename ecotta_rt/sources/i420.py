"""Colours of cameras: YUV 4:2:0 in three planes (I420, "yuv420p") as RGB.

Source: ITU-R BT.601-7 (2011), limited range: what libcamera and FFmpeg give where nothing else is asked for.
"""

import numpy as np
from numpy.typing import NDArray

__all__ = ["rgb_of_i420"]

_TO_RGB = np.array([[1.164, 1.164, 1.164], [0.0, -0.392, 2.017], [1.596, -0.813, 0.0]], np.float32)
"""Row: Y, Cb, Cr; column: what it adds to R, G, B."""

_BLACK = np.array([16, 128, 128], np.float32)


def rgb_of_i420(planes: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    """Make RGB of three planes.

    Args:
        planes: `[3 H / 2, S]`: H rows of Y, and, in rows of S / 2, H / 2 rows each of Cb and Cr; S, the stride, is the
            width or more.
        width: Of the picture; even.
        height: Of the picture; even.

    Returns:
        uint8 `[H, W, 3]`.
    """
    stride = planes.shape[1]
    chroma = planes[height:].reshape(2, height // 2, stride // 2)[:, :, : width // 2]
    wide = chroma.repeat(2, 1).repeat(2, 2)
    yuv = np.stack([planes[:height, :width], *wide], -1).astype(np.float32) - _BLACK
    rgb: NDArray[np.uint8] = (yuv @ _TO_RGB).round().clip(0, 255).astype(np.uint8)
    return rgb
