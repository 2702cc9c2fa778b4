"""Read PPM and PGM pictures: the one format for photographs, in colour and grey, that needs no library.

Sources: the "raw" forms, 8 bits a sample, of
    https://netpbm.sourceforge.net/doc/ppm.html
    https://netpbm.sourceforge.net/doc/pgm.html
"""

import math
import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ecotta_rt.errors import BadFrames
from ecotta_rt.sources.source import MAX_PIXELS

__all__ = ["MOST_HEADER_BYTES", "Header", "netpbm_header", "parse_netpbm"]

_NUMBER = rb"(?:\s|#[^\r\n]*[\r\n])+([0-9]{1,9})"
_CHANNELS = {b"P5": (), b"P6": (3,)}
_HEADER = re.compile(rb"(P[56])" + 3 * _NUMBER + rb"\s")
MOST_HEADER_BYTES = 4096
"""Longest header, comments included: a search through ten million line breaks took a gigabyte."""


@dataclass(frozen=True)
class Header:
    """What a picture says of itself.

    Attributes:
        shape: `[H, W, 3]`; of a PGM `[H, W]`.
        bytes: How long the header is; the pixels come after it.
    """

    shape: tuple[int, ...]
    bytes: int


def netpbm_header(content: bytes | bytearray) -> Header | None:
    """Read the header of a binary PPM (P6) or PGM (P5) with 256 levels; None where there is none, or not all of it.

    Raises:
        BadFrames: Another depth, or more than `MAX_PIXELS`.
    """
    header = _HEADER.match(content, 0, MOST_HEADER_BYTES)
    if header is None:
        return None
    width, height, largest = map(int, header.groups()[1:])
    if largest != 255:
        raise BadFrames(f"PPM or PGM with {largest + 1} levels, expected 256")
    if not 0 < width * height <= MAX_PIXELS:
        raise BadFrames(f"PPM or PGM of {width} x {height} pixels, expected 1 to {MAX_PIXELS}")
    return Header((height, width, *_CHANNELS[bytes(header[1])]), header.end())


def parse_netpbm(content: bytes) -> NDArray[np.uint8]:
    """Decode a binary PPM (P6) or PGM (P5) with 256 levels.

    Args:
        content: The whole file.

    Returns:
        uint8 `[H, W, 3]`; of a PGM `[H, W]`.

    Raises:
        BadFrames: Another format, another depth, truncated, or more than `MAX_PIXELS`.

    >>> parse_netpbm(b"P6 2 1 255 abcdef").tolist()
    [[[97, 98, 99], [100, 101, 102]]]
    """
    header = netpbm_header(content)
    if header is None:
        raise BadFrames(
            "no binary PPM or PGM header (P6 or P5, width, height, 255) in the first "
            f"{min(len(content), MOST_HEADER_BYTES)} bytes"
        )
    need_bytes, have_bytes = math.prod(header.shape), len(content) - header.bytes
    if have_bytes < need_bytes:
        height, width = header.shape[:2]
        raise BadFrames(f"truncated PPM or PGM: {have_bytes} bytes of pixels, {width} x {height} take {need_bytes}")
    return np.frombuffer(content, np.uint8, need_bytes, header.bytes).reshape(header.shape)
