"""Pictures that the user asks for with --plot: refused before any work, and written in one piece at its end."""

import io
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from ecotta_rt.errors import Unavailable, UsageError
from ecotta_rt.extras import how_to_install
from ecotta_rt.files.output import check_output, write_output

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["check_figure", "save_figure"]

_FORMATS = {".png": "png", ".svg": "svg"}


def check_figure(path: Path) -> None:
    """Say now, before any work, what would stop a drawing later.

    Raises:
        UsageError: The suffix is neither .png nor .svg, or see `check_output`.
        TransferError: The file cannot be written.
        Unavailable: matplotlib is not installed.
    """
    if path.suffix.lower() not in _FORMATS:
        known = " or ".join(_FORMATS)
        raise UsageError(f"--plot {path}: the suffix {path.suffix!r} is no picture format we draw; use {known}")
    check_output("--plot", path)
    if find_spec("matplotlib") is None:
        raise Unavailable(f"--plot needs matplotlib, which is not installed: {how_to_install('bench')}")


def save_figure(figure: "Figure", path: Path) -> None:
    """Write it as the suffix says of a `path` that `check_figure` has passed; an SVG holds no date.

    Raises:
        As `write_output`.
    """
    picture, kind = io.BytesIO(), _FORMATS[path.suffix.lower()]
    figure.savefig(picture, format=kind, metadata={"Date": None} if kind == "svg" else {})
    write_output(path, picture.getvalue())
