"""Draw what a training run told, epoch by epoch: losses above, signs that are shares below."""

import io
from importlib.util import find_spec
from pathlib import Path

from ecotta_rt.errors import Unavailable, UsageError
from ecotta_rt.extras import how_to_install
from ecotta_rt.files.output import check_output, write_output
from ecotta_rt.student.training import History

__all__ = ["check_curves", "check_picture", "draw_curves"]

_FORMATS = {".png": "png", ".svg": "svg"}
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#555555")  # of Okabe and Ito
_SHARES = ("confidence", "agreement")


def check_curves(path: Path) -> None:
    """Say before any training what would stop `draw_curves` later.

    Raises:
        UsageError: The suffix is neither .png nor .svg, or see `check_output`.
        TransferError: The file cannot be written.
        Unavailable: matplotlib is not installed.
    """
    check_picture(path)


def check_picture(path: Path) -> str:
    """The format that a path's suffix asks for; refuses as `check_curves`."""
    if path.suffix.lower() not in _FORMATS:
        known = " or ".join(_FORMATS)
        raise UsageError(f"--plot {path}: the suffix {path.suffix!r} is no picture format we draw; use {known}")
    check_output("--plot", path)
    if find_spec("matplotlib") is None:
        raise Unavailable(f"--plot needs matplotlib, which is not installed: {how_to_install('bench')}")
    return _FORMATS[path.suffix.lower()]


def draw_curves(history: History, path: Path, title: str) -> None:
    """Draw a line for each thing told; refuses as `check_curves`."""
    kind = check_picture(path)
    from matplotlib.figure import Figure  # no pyplot: nothing global, no window

    shares = [name for name in _SHARES if name in history[-1]]
    figure = Figure(figsize=(6.5, 5 if shares else 3.2), dpi=150, layout="constrained")
    panels = figure.subplots(2 if shares else 1, 1, sharex=True, squeeze=False)[:, 0]
    losses = [name for name in history[-1] if name not in _SHARES]
    for axes, names, label in zip(panels, (losses, shares), ("loss", "share of target frames"), strict=False):
        for name, colour in zip(names, _COLOURS, strict=False):
            values = [epoch[name] for epoch in history]
            axes.plot(range(1, len(values) + 1), values, color=colour, marker="o", markersize=3, label=name)
        axes.set_ylabel(label)
        axes.grid(color="#dddddd", linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)
    if shares:
        panels[1].set_ylim(0, 1)
    panels[-1].set_xlabel("epoch")
    figure.suptitle(title, fontsize=11)
    picture = io.BytesIO()
    figure.savefig(picture, format=kind, metadata={"Date": None} if kind == "svg" else {})
    write_output(path, picture.getvalue())
