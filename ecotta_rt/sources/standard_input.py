"""Frames that another program writes to our standard input.

    ffmpeg -i ... -f image2pipe -vcodec ppm - | ecotta run net.ecotta -
    rpicam-vid -t 0 --codec yuv420 -o - ... | ecotta run net.ecotta "stdin:?size=640x480&format=yuv420p"

Either pictures in PPM or PGM (P6, P5) one after the other, each with its size; or, where `size` is given, bare pixels.
The newest frame is answered and older ones are dropped, unless `every=yes`: then whoever writes has to wait.
"""

import math
import os
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ecotta_rt.errors import BadFrames, InputFileError, UsageError
from ecotta_rt.events import Item
from ecotta_rt.machine.clock import Clock, SystemClock
from ecotta_rt.records import Frame
from ecotta_rt.sources.i420 import rgb_of_i420
from ecotta_rt.sources.ppm import MOST_HEADER_BYTES, netpbm_header
from ecotta_rt.sources.query import Size, read_query
from ecotta_rt.sources.source import MAX_PIXELS, SourcePlug, SourceRequest

__all__ = ["EVERY_FRAME", "STDIN", "InputOptions", "StandardInput"]

_PREFIX = "stdin:"
_NAME = "standard input"
_DESCRIPTOR = 0
_NO_SIZE = Size(0, 0)
_PIPE_BYTES = 1 << 16

_CHANNELS = {"rgb24": (3,), "bgr24": (3,), "gray": (), "yuv420p": ()}


@dataclass(frozen=True)
class InputOptions:
    """What is written.

    Attributes:
        size: Of frames of bare pixels; without it each frame has a header.
        format: Of bare pixels, by FFmpeg's names.
        every: Whether every frame is answered; else the newest one is.
    """

    size: Size = _NO_SIZE
    format: Literal["rgb24", "bgr24", "gray", "yuv420p"] = "rgb24"
    every: bool = False


class StandardInput:
    """Frames from a pipe, until it is closed.

    Args:
        options: What is written.
        read: Gives up to so many bytes of it, at least one; b"" at the end.
        clock: Dates the frames.

    Raises:
        UsageError: A size that frames of this format cannot have.
    """

    dropped = 0

    def __init__(
        self,
        options: InputOptions | None = None,
        read: Callable[[int], bytes] | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._options = options or InputOptions()
        self._read = read or (lambda count: os.read(_DESCRIPTOR, count))
        self._clock = clock or SystemClock()
        self._closed = False
        self._waiting = bytearray()
        size = self._options.size
        if size.width * size.height > MAX_PIXELS:
            raise UsageError(f"stdin:?size={size}: more than {MAX_PIXELS} pixels")
        if self._options.format == "yuv420p" and (size.width % 2 or size.height % 2):
            raise UsageError(f"stdin:?size={size}: width and height of yuv420p are even")
        if self._options.format != "rgb24" and size == _NO_SIZE:
            raise UsageError(f"stdin:?format={self._options.format}: give the size, too, as in stdin:?size=640x480")

    def __iter__(self) -> Generator[Item, None, None]:
        """Raises `InputFileError` where a frame is cut short, or there is no header where one has to be."""
        index = 0
        while not self._closed:
            try:
                pixels = self._next() if self._options.size == _NO_SIZE else self._bare()
            except (BadFrames, OSError) as error:
                raise InputFileError(f"{_NAME}: frame {index}: {error}") from error
            if pixels is None or self._closed:
                return
            yield Frame(pixels, index, self._clock.now_s(), _NAME)
            index += 1

    def close(self) -> None:
        self._closed = True

    def _next(self) -> NDArray[np.uint8] | None:
        """A frame that has a header."""
        self._skip_blanks()
        while (header := netpbm_header(self._waiting)) is None:
            if len(self._waiting) >= MOST_HEADER_BYTES or not self._more(_PIPE_BYTES):
                if not self._waiting:
                    return None
                raise BadFrames(
                    "no header of a PPM or PGM picture (P6 or P5); write with `ffmpeg ... -f image2pipe -vcodec ppm -` "
                    "or give the size of bare pixels, as in stdin:?size=640x480&format=rgb24"
                )
        del self._waiting[: header.bytes]
        return self._exactly(header.shape)

    def _skip_blanks(self) -> None:
        """Those before a picture; none is kept, since a pipe may bring them for ever."""
        self._waiting = self._waiting.lstrip()
        while not self._waiting and self._more(_PIPE_BYTES):
            self._waiting = self._waiting.lstrip()

    def _bare(self) -> NDArray[np.uint8] | None:
        width, height, form = self._options.size.width, self._options.size.height, self._options.format
        if not self._waiting and not self._more(_PIPE_BYTES):
            return None
        if form == "yuv420p":
            return rgb_of_i420(self._exactly((3 * height // 2, width)), width, height)
        pixels = self._exactly((height, width, *_CHANNELS[form]))
        return np.ascontiguousarray(pixels[..., ::-1]) if form == "bgr24" else pixels

    def _exactly(self, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        count = math.prod(shape)
        while (missing := count - len(self._waiting)) > 0:
            if not self._more(missing):
                raise BadFrames(f"it ends after {len(self._waiting)} of {count} bytes of pixels")
        pixels = np.frombuffer(bytes(self._waiting[:count]), np.uint8).reshape(shape)
        del self._waiting[:count]
        return pixels

    def _more(self, count: int) -> bool:
        new = self._read(max(count, _PIPE_BYTES))
        self._waiting += new
        return bool(new)


def _named(text: str, request: SourceRequest) -> StandardInput:
    return StandardInput(read_query(_PREFIX, _query(text), InputOptions), clock=request.clock)


def _is_input(text: str) -> bool:
    return text in ("-", _PREFIX) or text.startswith(f"{_PREFIX}?")


def _query(text: str) -> str:
    return text.partition("?")[2]


EVERY_FRAME = SourcePlug(
    shown="stdin:?every=yes",
    recognises=lambda text: _is_input(text) and "every=yes" in _query(text).split("&"),
    opens=_named,
    checks=lambda text: _named(text, SourceRequest()),
)
STDIN = SourcePlug(
    shown="-", recognises=_is_input, opens=_named, checks=lambda text: _named(text, SourceRequest()), live=True
)
