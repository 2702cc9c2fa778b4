"""The ribbon camera of a Raspberry Pi, through picamera2 and libcamera, which Raspberry Pi OS brings.

    picamera:0?size=320x240&fps=10

Frames are those of the small stream ("lores"), which the camera's own processor makes beside the large one. They are
dated when the sensor was exposed.
"""

import time
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass
from types import ModuleType
from typing import Annotated, Any

import numpy as np

from ecotta_rt.errors import Unavailable, UsageError
from ecotta_rt.files.fields import Limit
from ecotta_rt.machine.clock import Clock
from ecotta_rt.sources.camera import Camera, timed
from ecotta_rt.sources.i420 import rgb_of_i420
from ecotta_rt.sources.patience import GIVES_UP, Patience
from ecotta_rt.sources.pyav import Broken, Picture
from ecotta_rt.sources.query import Size, read_query
from ecotta_rt.sources.source import SourcePlug

__all__ = ["PICAMERA", "PicameraOptions", "picamera"]

_PREFIX = "picamera:"
_SIZE = Size(320, 240)
_MAIN = Size(640, 480)  # the large stream has to be no smaller than the small one; nobody reads it


@dataclass(frozen=True)
class PicameraOptions:
    """What the camera is asked for.

    Attributes:
        size: Of the frames; even.
        fps: Frames a second.
    """

    size: Size = _SIZE
    fps: Annotated[float, Limit(0.1, 120)] = 10.0


def picamera(
    number: int, options: PicameraOptions | None = None, clock: Clock | None = None, patience: Patience = GIVES_UP
) -> Camera:
    """A camera that libcamera knows.

    Args:
        number: 0 for the first one.
        options: What it is asked for.
        clock: See `Camera`.
        patience: See `Camera`; with one that has a `hang_s`, a driver that hangs is left behind.

    Raises:
        Unavailable: picamera2 is not installed.
    """
    options = options or PicameraOptions()
    library = _require_picamera2()
    name = f"{_PREFIX}{number}"

    def connect() -> Generator[Picture | Broken, None, None]:
        return _shown(library, number, options)

    advice = "Does `rpicam-hello --list-cameras` name it? Is it in use by another program? Is its ribbon in place?"
    return Camera(timed(connect, patience), name, advice, clock, patience)


def _require_picamera2() -> ModuleType:
    try:
        import picamera2
    except ImportError as error:
        raise Unavailable(
            f"picamera2 cannot be loaded ({error}); on Raspberry Pi OS: sudo apt install python3-picamera2, and a "
            "virtual environment made with --system-site-packages"
        ) from error
    module: ModuleType = picamera2
    return module


def _shown(library: Any, number: int, options: PicameraOptions) -> Generator[Picture | Broken, None, None]:
    try:
        with closing(library.Picamera2(number)) as device:
            size = (options.size.width, options.size.height)
            main = (max(size[0], _MAIN.width), max(size[1], _MAIN.height))
            device.configure(
                device.create_video_configuration(
                    main={"size": main}, lores={"size": size, "format": "YUV420"}, controls={"FrameRate": options.fps}
                )
            )
            device.start()
            try:
                while True:
                    yield _picture(device, options.size)
            finally:
                device.stop()
    except (OSError, RuntimeError, IndexError) as error:  # no such camera, in use, unplugged
        raise Unavailable(str(error) or type(error).__name__) from error


def _picture(device: Any, size: Size) -> Picture:
    request = device.capture_request()
    try:
        planes, facts = np.array(request.make_array("lores")), request.get_metadata()
    finally:
        request.release()
    return Picture(rgb_of_i420(planes, size.width, size.height), None, captured_s=_exposed_s(facts))


def _exposed_s(facts: dict[str, Any]) -> float | None:
    """When it was exposed, by our clock; the sensor's goes on while the machine sleeps."""
    stamp: int | None = facts.get("SensorTimestamp")  # nanoseconds of CLOCK_BOOTTIME
    if stamp is None:
        return None
    return time.monotonic() - (time.clock_gettime(time.CLOCK_BOOTTIME) - stamp / 1e9)


def _asked(text: str) -> tuple[int, PicameraOptions]:
    number, _, query = text.removeprefix(_PREFIX).partition("?")
    if number and not (number.isascii() and number.isdigit() and len(number) < 4):
        raise UsageError(f"{text}: write picamera: for the first camera, or picamera:1 for the second")
    options = read_query(text, query, PicameraOptions)
    if options.size.width % 2 or options.size.height % 2:
        raise UsageError(f"{text}: size={options.size}: width and height are even")
    return int(number or 0), options


PICAMERA = SourcePlug(
    shown="picamera:",
    recognises=lambda text: text.startswith(_PREFIX),
    opens=lambda text, request: picamera(*_asked(text), request.clock, request.patience),
    checks=_asked,
    needs=lambda text: _require_picamera2(),
    live=True,
)
