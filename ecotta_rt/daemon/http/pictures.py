"""The newest picture of each camera, for the live page: small, in memory, and only while somebody looks.

    pictures.offer("door", frame.pixels)    by the work loop, with each frame: next to nothing while nobody looks
    pictures.png("door")                    by who looks

Nothing is written to a disk, and what was kept is gone some seconds after the last look.
"""

import math
import struct
import zlib
from dataclasses import dataclass
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from ecotta_rt.machine.clock import Clock, SystemClock

__all__ = ["Pictures", "png", "small"]

Pixels = NDArray[np.uint8]

_LONGEST_SIDE = 480
_LOOKED_S = 6.0
_EVERY_S = 0.4
_SIGNATURE = b"\x89PNG\r\n\x1a\n"


@dataclass
class _Kept:
    """A camera's: when somebody looked last, and what was there."""

    looked_s: float
    taken_s: float = -math.inf
    pixels: Pixels | None = None


class Pictures:
    """Keeps them. `offer` is for the work loop, `png` for other threads.

    Args:
        clock: Tells how long ago somebody has looked.
    """

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._lock = Lock()
        self._kept: dict[str, _Kept] = {}

    def offer(self, camera: str, pixels: Pixels) -> None:
        """Keep a small copy where somebody looks at this camera.

        Args:
            camera: Its name.
            pixels: uint8 `[H, W, 3]` or `[H, W]`.
        """
        if not self._kept:  # nobody looks at any
            return
        now_s = self._clock.now_s()
        with self._lock:
            kept = self._kept.get(camera)
            if kept is not None and now_s - kept.looked_s > _LOOKED_S:
                del self._kept[camera]
                return
        if kept is not None and now_s - kept.taken_s >= _EVERY_S:
            kept.pixels, kept.taken_s = small(pixels), now_s

    def png(self, camera: str) -> bytes | None:
        """Its newest picture as a PNG, and go on keeping it; None where there is none yet.

        Args:
            camera: The name of a camera there is: for each name something is kept for some seconds.
        """
        now_s = self._clock.now_s()
        with self._lock:
            for name in [name for name, kept in self._kept.items() if now_s - kept.looked_s > _LOOKED_S]:
                del self._kept[name]
            kept = self._kept.setdefault(camera, _Kept(now_s))
            kept.looked_s = now_s
        return None if kept.pixels is None else png(kept.pixels)


def small(pixels: Pixels, longest: int = _LONGEST_SIDE) -> Pixels:
    """A copy of at most `longest` pixels a side; each pixel is the mean of four that lie around its place.

    Args:
        pixels: uint8 `[H, W, 3]` or `[H, W]`.
        longest: Pixels.
    """
    step = math.ceil(max(pixels.shape[:2]) / longest)
    if step <= 1:
        return np.array(pixels)
    height, width = (size // step * step for size in pixels.shape[:2])
    if not height or not width:  # a line of pixels
        return np.array(pixels[::step, ::step])
    first, second = step // 4, step // 2 + step // 4
    total = np.zeros((height // step, width // step, *pixels.shape[2:]), np.uint16)
    for row in (first, second):
        for column in (first, second):
            total += pixels[row:height:step, column:width:step]
    return (total >> 2).astype(np.uint8)


def png(pixels: Pixels) -> bytes:
    """A PNG file; each row as the differences to the pixel on the left, which zlib makes less of.

    Source: PNG specification, third edition (W3C), sections 5 and 9.

    Args:
        pixels: uint8 `[H, W, 3]` or `[H, W]`.
    """
    height, width = pixels.shape[:2]
    channels = 3 if pixels.ndim == 3 else 1
    rows = np.ascontiguousarray(pixels).reshape(height, width * channels)
    filtered = np.empty((height, 1 + width * channels), np.uint8)
    filtered[:, 0] = 1  # filter type: sub
    filtered[:, 1 : 1 + channels] = rows[:, :channels]
    filtered[:, 1 + channels :] = rows[:, channels:] - rows[:, :-channels]
    header = struct.pack(">IIBBBBB", width, height, 8, 2 if channels == 3 else 0, 0, 0, 0)
    data = zlib.compress(filtered.tobytes(), 3)
    return _SIGNATURE + _chunk(b"IHDR", header) + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
