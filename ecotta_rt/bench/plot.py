"""Draw error against memory, one point a method, into a PNG or SVG file.

Two panels share the error axis, for two honest answers to "how much memory": what a step keeps for its backward, which
papers print, and what the whole process grew by, which a device must have.
"""

import io
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from ecotta_rt.bench.label_places import Box, place_labels
from ecotta_rt.bench.results import Report, Row
from ecotta_rt.errors import Unavailable, UsageError
from ecotta_rt.files.output import check_output, write_output

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["check_plot", "draw_plot"]

_MIB = 1024 * 1024
_FORMATS = {".png": "png", ".svg": "svg"}
_PANELS = (
    ("activation_bytes", "activations kept for the backward (MiB)"),
    ("growth_bytes", "growth of the process over its baseline (MiB)"),
)
# Colours of Okabe and Ito, which most colour-blind readers tell apart; the marker says the family once more.
_FAMILIES = {"ecotta": ("#0072B2", "o"), "tent": ("#D55E00", "s"), "eata": ("#CC79A7", "D"), "cotta": ("#009E73", "^")}
_CONTROL = ("#555555", "X")
_DOT_POINTS = 4.0  # radius


def check_plot(path: Path) -> None:
    """Say now, before any measuring, what would stop `draw_plot` later.

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
        raise Unavailable("--plot needs matplotlib, which is not installed: pip install 'ecotta_rt[bench]'")


def draw_plot(report: Report, path: Path) -> None:
    """Draw the rows of `report` into `path`; see `write_output`.

    Args:
        report: At least one row.
        path: Ends in .png or .svg.

    Raises:
        UsageError, Unavailable: As `check_plot`.
        TransferError: The file cannot be written.
    """
    check_plot(path)
    from matplotlib.figure import Figure  # no pyplot: nothing global, no window

    figure = Figure(figsize=(11, 5.2), dpi=150, layout="constrained")
    panels = figure.subplots(1, len(_PANELS), sharey=True)
    for axes, (size, label) in zip(panels, _PANELS, strict=True):
        _scatter(axes, report.rows, size, label)
    panels[0].set_ylabel("error on the stream (% of frames)")
    figure.suptitle(_title(report), fontsize=11)
    figure.supxlabel(_caption(report), fontsize=7.5, color="#555555")
    figure.draw_without_rendering()  # places everything, so that the labels know where the dots are
    for axes, (size, _) in zip(panels, _PANELS, strict=True):
        _label(figure, axes, report.rows, size)
    picture = io.BytesIO()
    kind = _FORMATS[path.suffix.lower()]
    figure.savefig(picture, format=kind, metadata={"Date": None} if kind == "svg" else {})
    write_output(path, picture.getvalue())


def _scatter(axes: "Axes", rows: Sequence[Row], size: str, label: str) -> None:
    for row in rows:
        colour, marker = _style(row.method)
        axes.scatter(_mib(row, size), row.error_percent, s=60, color=colour, marker=marker, zorder=3, clip_on=False)
    axes.set_xlabel(label)
    axes.set_xlim(left=0, right=max(1.0, *(_mib(row, size) for row in rows)) * 1.18)
    axes.margins(y=0.15)
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _label(figure: "Figure", axes: "Axes", rows: Sequence[Row], size: str) -> None:
    texts = [axes.text(0, 0, row.method, fontsize=9, color=_style(row.method)[0], va="bottom") for row in rows]
    dots = [tuple(axes.transData.transform((_mib(row, size), row.error_percent))) for row in rows]
    sizes = [(box.width, box.height) for box in (text.get_window_extent() for text in texts)]
    area = axes.get_window_extent()
    boxes = place_labels(dots, sizes, _DOT_POINTS * figure.dpi / 72, Box(area.x0, area.y0, area.x1, area.y1))
    to_data = axes.transData.inverted()
    for text, dot, box in zip(texts, dots, boxes, strict=True):
        left, bottom = to_data.transform((box.left, box.bottom))
        text.set_position((float(left), float(bottom)))
        # A hair line to the nearest point of a label that had to go far.
        near = (min(max(dot[0], box.left), box.right), min(max(dot[1], box.bottom), box.top))
        line = to_data.transform((dot, near))
        axes.plot(line[:, 0], line[:, 1], color="#aaaaaa", linewidth=0.7, zorder=2, scalex=False, scaley=False)


def _style(method: str) -> tuple[str, str]:
    return _FAMILIES.get(method.partition("-")[0], _CONTROL)


def _mib(row: Row, size: str) -> float:
    return float(getattr(row, size)) / _MIB


def _title(report: Report) -> str:
    stream = report.stream
    return (
        f"{report.model.name} on {stream.name}: {len(stream.corruptions)} corruptions x {stream.frames} frames, "
        f"severity {stream.severity}, batch {report.rows[0].batch}"
    )


def _caption(report: Report) -> str:
    environment = report.environment
    commit, plus, changes = (environment.commit or "").partition("+")
    engine = "onnxruntime" if report.rows[0].engine == "onnx" else "torch"
    at = f", commit {commit[:12]}{plus}{changes}" if commit else ""
    return (
        f"one run, seed {report.stream.seed}; {environment.cpu}, threads: {environment.threads}; "
        f"{engine} {environment.versions.get(engine, '?')}{at}; each method in a process of its own"
    )
