"""Read one picture from a file: .npy, PPM and PGM with what is at hand, all others through Pillow."""

from io import BufferedReader
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ecotta_rt.errors import BadFrames, InputFileError
from ecotta_rt.files.kinds import open_regular
from ecotta_rt.files.npy import map_npy
from ecotta_rt.sources.picture import read_picture
from ecotta_rt.sources.ppm import parse_netpbm
from ecotta_rt.sources.source import MAX_PIXELS

__all__ = ["IMAGE_SUFFIXES", "PLAIN_SUFFIXES", "read_image"]

PLAIN_SUFFIXES = (".npy", ".pgm", ".ppm")
"""Read without Pillow."""

IMAGE_SUFFIXES = (*PLAIN_SUFFIXES, ".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")

_MAX_BYTES = 1 << 27


def read_image(path: Path) -> NDArray[np.uint8]:
    """Read a picture, turned upright; the first one of an animation.

    Args:
        path: A file of one of `IMAGE_SUFFIXES`, by its content and not by its name, but for .npy, which holds uint8
            `[H, W, 3]` or `[H, W]`.

    Returns:
        uint8 `[H, W, 3]` RGB, or `[H, W]` where the file is grey.

    Raises:
        BadFrames: It cannot be read or decoded, is none of the formats, or is larger than `MAX_PIXELS`.
        Unavailable: Pillow is needed and not installed.
    """
    if path.suffix.lower() == ".npy":
        return _from_npy(path)
    try:
        with open_regular(path) as file:
            if file.peek(2)[:2] in (b"P5", b"P6"):
                return parse_netpbm(_limited(file))
    except OSError as error:
        raise BadFrames(f"cannot be read ({error.strerror or error})") from error
    return read_picture(path)


def _limited(file: BufferedReader) -> bytes:
    content = file.read(_MAX_BYTES + 1)
    if len(content) > _MAX_BYTES:
        raise BadFrames(f"longer than {_MAX_BYTES} bytes, the most we read")
    return content


def _from_npy(path: Path) -> NDArray[np.uint8]:
    try:
        array = map_npy(path)
    except InputFileError as error:
        raise BadFrames(str(error)) from error
    grey = array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 1)
    if array.dtype != np.uint8 or not (grey or (array.ndim == 3 and array.shape[2] == 3)):
        raise BadFrames(f"{array.dtype} of shape {list(array.shape)}, expected uint8 [H, W, 3], or [H, W] where grey")
    if array.size > 3 * MAX_PIXELS:
        raise BadFrames(f"shape {list(array.shape)}, more than {MAX_PIXELS} pixels")
    return np.array(array)
