"""A camera that is none: coloured shapes that stay a while, in weather that changes. To try things and for tests.

    synthetic:door?fps=5&size=64x64&seed=0

The same name and options show the same pictures on every machine. It can be told to break as real cameras do.
"""

import itertools
import zlib
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from ecotta_rt.errors import Unavailable
from ecotta_rt.files.fields import Limit
from ecotta_rt.machine.clock import Clock, SystemClock
from ecotta_rt.sources.camera import Camera, timed
from ecotta_rt.sources.patience import GIVES_UP, Patience
from ecotta_rt.sources.pyav import Broken, Picture
from ecotta_rt.sources.query import Size, read_query
from ecotta_rt.sources.source import SourcePlug, SourceRequest

__all__ = ["SYNTHETIC", "SyntheticOptions", "picture_at", "synthetic_camera"]

_PREFIX = "synthetic:"

_SIZE = Size(64, 64)
_HANG_S = 3600.0
_RUBBISH = 4

Shape = Callable[[NDArray[np.float32], NDArray[np.float32]], NDArray[np.bool_]]
"""Which points are inside, by x and y from the middle, where the shape's half width is 1."""

_SHAPES: tuple[Shape, ...] = (
    lambda x, y: x**2 + y**2 < 1,  # disc
    lambda x, y: np.maximum(np.abs(x), np.abs(y)) < 0.85,  # square
    lambda x, y: (y < 0.8) & (2 * np.abs(x) < y + 1),  # triangle
    lambda x, y: (np.minimum(np.abs(x), np.abs(y)) < 0.3) & (np.maximum(np.abs(x), np.abs(y)) < 1),  # cross
    lambda x, y: np.abs(x**2 + y**2 - 0.7) < 0.3,  # ring
)
_COLOURS = ((220, 60, 50), (60, 160, 70), (60, 90, 210), (230, 200, 60), (170, 80, 180))
_WEATHERS = ("clear", "fog", "night", "noise", "rain")


@dataclass(frozen=True)
class SyntheticOptions:
    """What is shown, and how it breaks.

    Attributes:
        fps: Frames a second; 0: as fast as they are taken.
        size: Of the pictures.
        seed: Of everything that is drawn.
        stay: Frames that a shape stays for.
        weather: Frames that the weather stays for; 0: always clear.
        lose: The connection is lost after so many frames; 0: never.
        hang: A read hangs after so many frames; 0: never.
        rubbish: Each so manyth frame is rubbish: noise, one pixel, grey, a strip, or none that can be decoded; 0: none.
    """

    fps: Annotated[float, Limit(0, 1000)] = 5.0
    size: Size = _SIZE
    seed: Annotated[int, Limit(0, 2**31)] = 0
    stay: Annotated[int, Limit(1, 10**6)] = 25
    weather: Annotated[int, Limit(0, 10**6)] = 200
    lose: Annotated[int, Limit(0, 10**9)] = 0
    hang: Annotated[int, Limit(0, 10**9)] = 0
    rubbish: Annotated[int, Limit(0, 10**9)] = 0


def synthetic_camera(
    name: str,
    options: SyntheticOptions | None = None,
    clock: Clock | None = None,
    patience: Patience = GIVES_UP,
) -> Camera:
    """A camera that shows shapes; it counts its frames on through lost connections.

    Args:
        name: Of the camera; another name shows other pictures.
        options: What is shown.
        clock: Paces and dates the frames.
        patience: See `Camera`.
    """
    options, clock = options or SyntheticOptions(), clock or SystemClock()
    shown = _shown(name, options)

    def connect() -> Generator[Picture | Broken, None, None]:
        start_s = clock.now_s()
        for count in itertools.count():
            if options.fps:
                clock.sleep_s(start_s + count / options.fps - clock.now_s())
            if options.hang and count == options.hang:
                camera.pause(_HANG_S)
            yield next(shown)
            if count + 1 == options.lose:
                raise Unavailable(f"connection lost after {options.lose} frames, as it was told")

    advice = "It is made up: see the options behind its name"
    camera = Camera(timed(connect, _slow(patience, options)), f"{_PREFIX}{name}", advice, clock, patience)
    return camera


def _slow(patience: Patience, options: SyntheticOptions) -> Patience:
    """A camera with a frame a minute does not hang."""
    if patience.hang_s is None or not options.fps:
        return patience
    return replace(patience, hang_s=patience.hang_s + 1 / options.fps)


def _shown(name: str, options: SyntheticOptions) -> Generator[Picture | Broken, None, None]:
    index = 0
    while True:
        bad = options.rubbish and index % options.rubbish == options.rubbish - 1
        yield _rubbish(name, options, index) if bad else Picture(picture_at(name, options, index), None)
        index += 1


def picture_at(name: str, options: SyntheticOptions, index: int) -> NDArray[np.uint8]:
    """The picture at a position of the stream: uint8 `[H, W, 3]`, RGB."""
    scene, moment = _drawn(name, options.seed, index // options.stay, 0), _drawn(name, options.seed, index, 1)
    shape, colour = _SHAPES[scene.integers(len(_SHAPES))], _COLOURS[scene.integers(len(_COLOURS))]
    ground, left, top = scene.uniform(60, 200), *scene.uniform(-0.3, 0.3, 2) + moment.normal(0, 0.02, 2)
    y, x = np.meshgrid(
        np.linspace(-1, 1, options.size.height, dtype=np.float32),
        np.linspace(-1, 1, options.size.width, dtype=np.float32),
        indexing="ij",
    )
    pixels = np.repeat((ground + 40 * y + 0 * x)[:, :, None], 3, 2)
    pixels[shape(2 * (x - left), 2 * (y - top))] = colour
    pixels += moment.normal(0, 2, pixels.shape)
    return _weathered(pixels, _weather(name, options, index), moment).clip(0, 255).astype(np.uint8)


def _weather(name: str, options: SyntheticOptions, index: int) -> str:
    if not options.weather or index < options.weather:
        return "clear"
    drawn = _drawn(name, options.seed, index // options.weather, 2)
    return _WEATHERS[drawn.integers(len(_WEATHERS))]


def _weathered(pixels: NDArray[np.float64], weather: str, drawn: "np.random.Generator") -> NDArray[np.float64]:
    if weather == "fog":
        return 0.4 * pixels + 0.6 * 200
    if weather == "night":
        return 0.25 * pixels
    if weather == "noise":
        return pixels + drawn.normal(0, 40, pixels.shape)
    if weather == "rain":
        return np.where(drawn.random((1, pixels.shape[1], 1)) < 0.1, 0.5 * pixels + 100, pixels)
    return pixels


def _rubbish(name: str, options: SyntheticOptions, index: int) -> Picture | Broken:
    drawn, kind = _drawn(name, options.seed, index, 3), (index // options.rubbish) % (_RUBBISH + 1)
    if kind == _RUBBISH:
        return Broken("rubbish, as it was told")
    height, width = options.size.height, options.size.width
    shape = ((height, width, 3), (1, 1, 3), (height, width), (1, 8 * width, 3))[kind]
    return Picture(drawn.integers(0, 256, shape, np.uint8), None)


def _drawn(name: str, seed: int, number: int, purpose: int) -> "np.random.Generator":
    return np.random.default_rng([seed, zlib.crc32(name.encode()), number, purpose])


def _asked(text: str) -> tuple[str, SyntheticOptions]:
    name, _, query = text.removeprefix(_PREFIX).partition("?")
    return name or "camera", read_query(text, query, SyntheticOptions)


def _named(text: str, request: SourceRequest) -> Camera:
    return synthetic_camera(*_asked(text), request.clock, request.patience)


SYNTHETIC = SourcePlug(
    shown="synthetic:NAME",
    recognises=lambda text: text.startswith(_PREFIX),
    opens=_named,
    checks=_asked,
    live=True,
)
