"""Read one picture from a file: .npy and PPM with what is at hand, all others through PyAV."""

import io
from contextlib import closing
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ecotta_rt.errors import BadFrames, InputFileError
from ecotta_rt.files.kinds import open_regular
from ecotta_rt.runtime.sources.npy import map_npy
from ecotta_rt.runtime.sources.ppm import parse_ppm
from ecotta_rt.runtime.sources.pyav import Broken, pictures
from ecotta_rt.runtime.sources.source import MAX_PIXELS

__all__ = ["IMAGE_SUFFIXES", "PLAIN_SUFFIXES", "read_image"]

PLAIN_SUFFIXES = (".npy", ".ppm")
"""Read without PyAV."""

IMAGE_SUFFIXES = (*PLAIN_SUFFIXES, ".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")

_MAX_BYTES = 1 << 27

# A file's first bytes -> FFmpeg's reader. Named here and not left to FFmpeg, which would also open playlists that
# lead elsewhere; by content, since names are often wrong.
_READERS = (
    (b"\xff\xd8\xff", "jpeg_pipe"),
    (b"\x89PNG\r\n\x1a\n", "png_pipe"),
    (b"RIFF", "webp_pipe"),
    (b"BM", "bmp_pipe"),
    (b"GIF8", "gif_pipe"),
    (b"II*\x00", "tiff_pipe"),
    (b"MM\x00*", "tiff_pipe"),
)


def read_image(path: Path) -> NDArray[np.uint8]:
    """Read a picture; the first one of an animation.

    Args:
        path: A file of one of `IMAGE_SUFFIXES`; a .npy file holds uint8 `[H, W, 3]`, or `[H, W]`.

    Returns:
        uint8 `[H, W, 3]`, RGB; of a grey .npy file uint8 as it is.

    Raises:
        BadFrames: It cannot be read or decoded, is none of the formats, or is larger than `MAX_PIXELS`.
        Unavailable: PyAV is needed and not installed.
    """
    if path.suffix.lower() == ".npy":
        return _from_npy(path)
    content = _content(path)
    if content.startswith(b"P6"):
        return parse_ppm(content)
    reader = next((reader for start, reader in _READERS if content.startswith(start)), None)
    if reader is None:
        raise BadFrames(f"none of the picture formats we read; it starts with {content[:8]!r}")
    # A torn JPEG comes out half grey unless FFmpeg is strict; a strict one refuses sound TIFFs.
    strict = reader != "tiff_pipe"
    with closing(pictures(io.BytesIO(content), BadFrames, strict=strict, container=reader)) as found:
        picture = next(found, Broken("holds no picture"))
    if isinstance(picture, Broken):
        raise BadFrames(picture.why)
    return picture.pixels


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


def _content(path: Path) -> bytes:
    try:
        with open_regular(path) as file:
            content = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise BadFrames(f"cannot be read ({error.strerror or error})") from error
    if len(content) > _MAX_BYTES:
        raise BadFrames(f"longer than {_MAX_BYTES} bytes, the most we read")
    return content
