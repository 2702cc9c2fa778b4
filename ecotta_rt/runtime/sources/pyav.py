"""The one place that talks to PyAV, and so to FFmpeg: pictures out of files, cameras and streams.

PyAV comes with the extra `camera` and is loaded when the first picture is asked for.
"""

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from ecotta_rt.errors import EcottaError
from ecotta_rt.extras import missing_package
from ecotta_rt.runtime.sources.source import MAX_PIXELS

__all__ = ["Broken", "Picture", "pictures", "require_av"]


@dataclass(frozen=True, eq=False)
class Picture:
    """A decoded picture: uint8 `[H, W, 3]` RGB, and its time in the film in seconds, where the film says one."""

    pixels: NDArray[np.uint8]
    time_s: float | None


@dataclass(frozen=True)
class Broken:
    """A picture that could not be decoded, and why."""

    why: str


def require_av() -> ModuleType:
    """The package `av`.

    Raises:
        Unavailable: It is not installed; names the extra.
    """
    try:
        import av
    except ModuleNotFoundError as error:
        raise missing_package(error) or error from error
    return av


def pictures(
    file: str | BinaryIO,
    fail: Callable[[str], EcottaError],
    *,
    strict: bool,
    container: str | None = None,
    options: Mapping[str, str] | None = None,
    timeout_s: float | None = None,
) -> Generator[Picture | Broken, None, None]:
    """Decode the first video stream of a file, a device or a URL.

    Args:
        file: What FFmpeg calls a file, or an open one.
        fail: Makes the error to raise where nothing can be read, or nothing more.
        strict: Whether a picture with any damage is broken; else FFmpeg paints over what it can.
        container: FFmpeg's name of the format; found out where None.
        options: FFmpeg's options for the format.
        timeout_s: Longest wait for opening and for each read; only network streams keep to it.

    Raises:
        Unavailable: PyAV is not installed.
        EcottaError: What `fail` made.
    """
    av = require_av()
    # FFmpeg decodes while it probes, so the limit has to be there from the start.
    options = {**(options or {}), "max_pixels": str(MAX_PIXELS)}
    try:
        opened = av.open(file, format=container, options=options, timeout=timeout_s)
    except (av.FFmpegError, OSError) as error:
        raise fail(_why(error)) from error
    with opened:
        if not opened.streams.video:
            raise fail("holds no video stream")
        stream = opened.streams.video[0]
        size = (stream.codec_context.width, stream.codec_context.height)
        if not 0 < size[0] * size[1] <= MAX_PIXELS:
            raise fail(f"no pictures that can be decoded, or larger than {MAX_PIXELS} pixels")
        stream.codec_context.options = {"max_pixels": str(MAX_PIXELS), **({"err_detect": "explode"} if strict else {})}
        packets = opened.demux(stream)
        while True:
            try:
                packet = next(packets, None)
            except (av.FFmpegError, OSError) as error:
                raise fail(f"reading stopped half-way ({_why(error)})") from error
            if packet is None:
                return
            try:
                frames = packet.decode()
            except av.FFmpegError as error:
                yield Broken(f"cannot be decoded ({_why(error)})")
                continue
            for frame in frames:
                if frame.is_corrupt:
                    yield Broken("damaged: FFmpeg marks the picture as corrupt")
                else:
                    yield Picture(frame.to_ndarray(format="rgb24"), frame.time)


def _why(error: BaseException) -> str:
    # Not str(error): it repeats the address, and that of a stream may hold a password.
    return str(getattr(error, "strerror", None) or type(error).__name__)
