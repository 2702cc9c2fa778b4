"""The one place that talks to PyAV, and so to FFmpeg: pictures out of films, cameras and streams.

PyAV comes with the extra `camera` and is loaded when the first picture is asked for.

FFmpeg paints over damage and hands the picture out as if nothing were wrong with it, and later pictures are made of it:
what it complains of stands in its log alone. So each decoding is listened to, and from the first complaint on pictures
are `damaged` until a key picture that was sent after it. Damage that still makes sense to the decoder is not found.
"""

import logging
from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from dataclasses import dataclass
from types import ModuleType
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from ecotta_rt.errors import EcottaError
from ecotta_rt.extras import missing_package
from ecotta_rt.sources.source import MAX_PIXELS

__all__ = ["Broken", "Picture", "pictures", "require_av"]


@dataclass(frozen=True, eq=False)
class Picture:
    """A decoded picture.

    Attributes:
        pixels: uint8 `[H, W, 3]` RGB, turned upright where the film says how it was held.
        time_s: Its time in the film, where the film says one.
        damaged: Whether it may show damage: its own, or that of a picture it is made of.
        captured_s: When it was captured, seconds of `time.monotonic`, where a driver says so.
    """

    pixels: NDArray[np.uint8]
    time_s: float | None
    damaged: bool = False
    captured_s: float | None = None


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
    dated: bool = False,
) -> Generator[Picture | Broken, None, None]:
    """Decode the first video stream of a file, a device or a URL.

    Args:
        file: What FFmpeg calls a file, or an open one.
        fail: Makes the error to raise where nothing can be read, or nothing more.
        strict: Whether a picture with any damage is broken; else FFmpeg paints over what it can.
        container: FFmpeg's name of the format; found out where None.
        options: FFmpeg's options for the format.
        timeout_s: Longest wait for opening and for each read; only network streams keep to it.
        dated: Whether the times of pictures are those at which they were captured. V4L2's are: they are the driver's,
            which takes CLOCK_MONOTONIC. RTSP's are not: a camera's clock begins anywhere.

    Raises:
        Unavailable: PyAV is not installed.
        EcottaError: What `fail` made.
    """
    av = require_av()
    _listen_to_ffmpeg(av)
    # FFmpeg decodes while it probes, so the limit has to be there from the start.
    options = {**(options or {}), "max_pixels": str(MAX_PIXELS)}
    try:
        opened = av.open(file, format=container, options=options, timeout=timeout_s, metadata_errors="replace")
    except (av.FFmpegError, OSError, ValueError) as error:
        raise fail(_why(error)) from error
    with opened:
        if not opened.streams.video:
            raise fail("holds no video stream")
        stream = opened.streams.video[0]
        codec = stream.codec_context
        if codec is None:
            raise fail("its pictures are coded in a way that FFmpeg does not know")
        size = (codec.width, codec.height)
        if not 0 < size[0] * size[1] <= MAX_PIXELS:
            raise fail(f"no pictures that can be decoded, or larger than {MAX_PIXELS} pixels")
        codec.options = {"max_pixels": str(MAX_PIXELS), **({"err_detect": "explode"} if strict else {})}
        # Complaints reach us from this thread only; and the other cores are the network's.
        codec.thread_count = 1
        codec.flags |= av.codec.context.Flags.copy_opaque
        with closing(_packets(opened, stream, fail)) as packets:
            yield from _decoded(packets, dated)


def _packets(opened: Any, stream: Any, fail: Callable[[str], EcottaError]) -> Generator[Any, None, None]:
    import av

    packets = opened.demux(stream)
    while True:
        try:
            packet = next(packets, None)
        except (av.FFmpegError, OSError) as error:
            raise fail(f"reading stopped half-way ({_why(error)})") from error
        if packet is None:
            return
        yield packet


def _decoded(packets: Generator[Any, None, None], dated: bool) -> Generator[Picture | Broken, None, None]:
    damaged_by: int | None = None  # the last packet with damage that no key picture has made good
    for position, packet in enumerate(packets):
        packet.opaque = position  # comes back with its picture, which may be many packets later
        frames, complaint, refused = _listened(packet)
        if refused is not None:
            yield Broken(f"cannot be decoded ({refused})")
        if refused is not None or complaint or packet.is_corrupt:
            damaged_by = position
        for frame in frames:
            made_of = position if frame.opaque is None else frame.opaque
            if frame.is_corrupt:
                damaged_by = max(made_of, damaged_by or 0)
                yield Broken("damaged: FFmpeg marks the picture as corrupt")
                continue
            if frame.key_frame and damaged_by is not None and made_of > damaged_by:
                damaged_by = None
            yield Picture(_upright(frame), frame.time, damaged_by is not None, frame.time if dated else None)


def _listened(packet: Any) -> tuple[list[Any], bool, str | None]:
    """Decode a packet: pictures, whether FFmpeg complained, and why it gave up where it did."""
    import av

    with av.logging.Capture(local=True) as complaints:
        try:
            frames, refused = packet.decode(), None
        except av.FFmpegError as error:
            frames, refused = [], _why(error)
    return frames, any(level <= av.logging.ERROR for level, _, _ in complaints), refused


def _upright(frame: Any) -> NDArray[np.uint8]:
    pixels: NDArray[np.uint8] = frame.to_ndarray(format="rgb24")
    quarters = round(frame.rotation / 90) % 4  # anticlockwise, as numpy counts them
    return np.ascontiguousarray(np.rot90(pixels, quarters)) if quarters else pixels


def _listen_to_ffmpeg(av: ModuleType) -> None:
    """Have its complaints logged, each time it has them; what nobody captures reaches no terminal by itself."""
    if av.logging.get_level() is None:
        logging.getLogger("libav").addHandler(logging.NullHandler())
        av.logging.set_level(av.logging.ERROR)
    av.logging.set_skip_repeated(False)


def _why(error: BaseException) -> str:
    # Not str(error): it repeats the address, and that of a stream may hold a password.
    return str(getattr(error, "strerror", None) or type(error).__name__)
