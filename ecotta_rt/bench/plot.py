"""Draw error against memory, one point a method, into a PNG or SVG file.

Two panels share the error axis, for two honest answers to "how much memory": what a step keeps for its backward, which
papers print, and what the whole process grew by, which a device must have.
"""

from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING

from ecotta_rt.bench.results import BenchReport, Row
from ecotta_rt.files.figure import check_figure, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw_plot"]

_MIB = 1024 * 1024
_PANELS = (
    ("activation_bytes", "activations kept for the backward (MiB)"),
    ("growth_bytes", "growth of the process over its baseline (MiB)"),
)
# Colours of Okabe and Ito, which most colour-blind readers tell apart; the marker tells methods of a family apart.
_FAMILIES = {"ecotta": "#0072B2", "tent": "#D55E00", "eata": "#CC79A7", "cotta": "#009E73"}
_CONTROL = "#555555"
_MARKERS = "osD^vPX*<>ph"


def draw_plot(report: BenchReport, path: Path) -> None:
    """Draw the rows of `report` into `path`; see `write_output`.

    Args:
        report: At least one row.
        path: Ends in .png or .svg.

    Raises:
        UsageError, Unavailable: As `check_figure`.
        TransferError: The file cannot be written.
    """
    check_figure(path)
    from matplotlib.figure import Figure  # no pyplot: nothing global, no window

    rows = [row for row in report.rows if isinstance(row, Row)]
    figure = Figure(figsize=(11, 5.2), dpi=150, layout="constrained")
    panels = figure.subplots(1, len(_PANELS), sharey=True)
    for axes, (size, label) in zip(panels, _PANELS, strict=True):
        _scatter(axes, rows, size, label)
    panels[0].set_ylabel("error on the stream (% of frames)")
    figure.suptitle(_title(report), fontsize=11)
    figure.supxlabel(_caption(report), fontsize=7.5, color="#555555")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right upper", frameon=False)
    save_figure(figure, path)


def _scatter(axes: "Axes", rows: Sequence[Row], size: str, label: str) -> None:
    for row, marker in zip(rows, cycle(_MARKERS), strict=False):
        colour = _FAMILIES.get(row.method.partition("-")[0], _CONTROL)
        at = (_mib(row, size), row.error_percent)
        axes.scatter(*at, s=60, color=colour, marker=marker, label=row.method, zorder=3, clip_on=False)
    axes.set_xlabel(label)
    axes.set_xlim(left=0, right=max(1.0, *(_mib(row, size) for row in rows)) * 1.05)
    axes.margins(y=0.15)
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _mib(row: Row, size: str) -> float:
    return float(getattr(row, size)) / _MIB


def _title(report: BenchReport) -> str:
    stream = report.stream
    return (
        f"{report.model.name} on {stream.name}: {len(stream.corruptions)} corruptions x {stream.frames} frames, "
        f"severity {stream.severity}, batch {report.rows[0].batch}"
    )


def _caption(report: BenchReport) -> str:
    environment = report.environment
    commit, plus, changes = (environment.commit or "").partition("+")
    engine = "onnxruntime" if report.rows[0].engine == "onnx" else "torch"
    at = f", commit {commit[:12]}{plus}{changes}" if commit else ""
    return (
        f"one run, seed {report.stream.seed}; {environment.cpu}, threads: {environment.threads}; "
        f"{engine} {environment.versions.get(engine, '?')}{at}; each method in a process of its own"
    )
