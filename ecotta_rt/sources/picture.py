"""Read one picture, upright, through Pillow: on the device and for the warm-up alike.

Pillow comes with the extra `pictures` and is loaded when the first picture is asked for. What it costs beside others:
benchmarks/measure_picture_decoders.py.
"""

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ecotta_rt.errors import BadFrames, Unavailable
from ecotta_rt.extras import missing_package
from ecotta_rt.files.kinds import open_regular
from ecotta_rt.sources.source import MAX_PIXELS

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["picture_size", "read_picture", "require_pillow"]

# Named, and not all that Pillow knows: it hands EPS to Ghostscript, which runs it as a program.
_FORMATS = ("JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP", "PPM", "JPEG2000", "TGA", "ICO")

_DAMAGES = (OSError, ValueError, SyntaxError, MemoryError, ArithmeticError, LookupError)
"""What Pillow raises for pictures that are damaged."""

_PILLOW: Any = re.compile(r"PIL\.")
"""Modules whose warnings nobody needs."""

_ORIENTATION = 0x0112
"""Exif tag: 1 lies right; from 5 on the sides change places."""

_ON_ITS_SIDE = (5, 6, 7, 8)
_TURNS = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}  # -> PIL.Image.Transpose, which --help does not need
_GREY_MODES = ("1", "L", "LA", "La")
_DEEP_MODES = ("I;16", "I;16L", "I;16B", "I;16N", "I")


def read_picture(file: Path | IO[bytes]) -> NDArray[np.uint8]:
    """Read a picture as people see it: turned upright by its Exif orientation, transparency left out.

    Args:
        file: A file of one of the formats, or an open one that can seek; its name does not matter. Of an animation the
            first picture is read.

    Returns:
        uint8 `[H, W, 3]` RGB, or `[H, W]` where the file is grey. Of 16 bits the upper 8 are taken.

    Raises:
        BadFrames: It is damaged, none of the formats, larger than `MAX_PIXELS`, or cannot be read.
        Unavailable: Pillow is not installed.
    """
    require_pillow()
    from PIL.Image import Transpose

    with _opened(file) as image:
        try:
            turn = _TURNS.get(_orientation(image))
            return _pixels(image if turn is None else image.transpose(Transpose(turn)))
        except _DAMAGES as error:
            raise BadFrames(f"damaged: {error}") from error


def picture_size(path: Path) -> tuple[int, int]:
    """Height and width of an upright picture; only its header is read.

    Raises:
        As `read_picture`.
    """
    with _opened(path) as image:
        return image.size if _orientation(image) in _ON_ITS_SIDE else (image.height, image.width)


def require_pillow() -> None:
    """Say at once that Pillow is missing.

    Raises:
        Unavailable: It is not installed; names the extra.
    """
    try:
        import PIL.Image  # noqa: F401
    except ModuleNotFoundError as error:
        raise missing_package(error) or Unavailable(str(error)) from error
    _quieten()


def _quieten() -> None:
    """No warnings of what Pillow puts up with; what it does not is an error.

    For the process, once: filters cannot be set for a thread, and to set them around each picture takes a lock, behind
    which all cameras wait for the slowest.
    """
    if not any(module == _PILLOW for _, _, _, module, _ in warnings.filters):
        warnings.filterwarnings("ignore", module=_PILLOW.pattern)


@contextmanager
def _opened(file: Path | IO[bytes]) -> "Iterator[Image]":
    require_pillow()
    if not isinstance(file, Path):
        with _decoder(file) as image:
            yield image
        return
    try:
        opened = open_regular(file)
    except OSError as error:
        raise BadFrames(f"cannot be read ({error.strerror or error})") from error
    with opened, _decoder(opened) as image:
        yield image


@contextmanager
def _decoder(file: IO[bytes]) -> "Iterator[Image]":
    from PIL import Image, UnidentifiedImageError

    try:
        image = Image.open(file, formats=_FORMATS)
    except UnidentifiedImageError as error:
        raise BadFrames(f"no picture of the formats we read ({', '.join(_FORMATS)})") from error
    except Image.DecompressionBombError as error:
        raise BadFrames(f"larger than {MAX_PIXELS} pixels, the most we decode") from error
    except _DAMAGES as error:
        raise BadFrames(f"damaged: {error}") from error
    with image:
        if image.width * image.height > MAX_PIXELS:
            raise BadFrames(f"{image.width}x{image.height}, larger than {MAX_PIXELS} pixels, the most we decode")
        yield image


def _orientation(image: "Image") -> int:
    if image.format == "TIFF":
        return 1  # Pillow turns these itself, and tells their size as turned
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except (OSError, ValueError, SyntaxError, LookupError, TypeError):  # damaged Exif data beside a sound picture
        return 1


def _pixels(image: "Image") -> NDArray[np.uint8]:
    if image.mode in _DEEP_MODES:
        return (np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8)
    return np.array(image.convert("L" if image.mode in _GREY_MODES else "RGB"))
