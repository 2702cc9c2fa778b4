"""Draw streams into a PNG or SVG file: a panel a protocol, error over time, a line a method."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ecotta_rt.bench.plot import check_plot
from ecotta_rt.bench.streams.figures import WINDOW
from ecotta_rt.bench.streams.protocols import PROTOCOLS
from ecotta_rt.bench.streams.report import answers_of
from ecotta_rt.bench.streams.results import StreamReport
from ecotta_rt.files.output import write_output

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw_streams"]

_COLUMNS = 2
_SMOOTHED = 10  # windows of a running mean: single ones scatter by four points


def draw_streams(report: StreamReport, path: Path) -> None:
    """Draw all rows; the lines are means over seeds.

    Raises:
        UsageError, Unavailable, TransferError: As `ecotta_rt.bench.plot.draw_plot`.
    """
    check_plot(path)
    from matplotlib import color_sequences
    from matplotlib.figure import Figure

    protocols = [name for name in PROTOCOLS if any(row.protocol == name for row in report.rows)]
    colours = dict(zip(answers_of(report.rows), color_sequences["tab20"] * 9, strict=False))
    rows = -(-len(protocols) // _COLUMNS)
    figure = Figure(figsize=(6.5 * _COLUMNS, 3.2 * (rows + 1)), dpi=120, layout="constrained")
    grid = figure.add_gridspec(rows + 1, _COLUMNS)
    for place, name in enumerate(protocols):
        _draw_time(figure.add_subplot(grid[place // _COLUMNS, place % _COLUMNS]), report, name, colours)
    _draw_bars(figure.add_subplot(grid[rows, :]), report, protocols, colours)
    figure.suptitle(f"{report.subject.network} on {report.subject.images}: error (%)")
    handles = [figure.axes[-1].bar(0, 0, color=colour, label=title) for title, colour in colours.items()]
    figure.legend(handles=handles, loc="outside right upper", frameon=False, fontsize=7)
    picture, kind = io.BytesIO(), path.suffix.lower()[1:]
    figure.savefig(picture, format=kind, metadata={"Date": None} if kind == "svg" else {})
    write_output(path, picture.getvalue())


def _draw_time(axes: "Axes", report: StreamReport, protocol: str, colours: Mapping[str, Any]) -> None:
    for title, found in answers_of([row for row in report.rows if row.protocol == protocol]).items():
        whole = [errors.windows[:-1] or errors.windows for _, errors in found]
        error = 100 / WINDOW * np.mean([line for line in whole if len(line) == len(whole[0])], axis=0)
        width = min(_SMOOTHED, len(error))
        smooth = np.convolve(error, np.full(width, 1 / width), mode="valid")
        axes.plot(WINDOW * (np.arange(len(smooth)) + width), smooth, color=colours[_known(title, colours)], linewidth=1)
    axes.set_title(protocol, fontsize=9)
    axes.set_xlabel(f"valid frames (running mean of {_SMOOTHED * WINDOW})", fontsize=7)
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)


def _draw_bars(axes: "Axes", report: StreamReport, protocols: list[str], colours: Mapping[str, Any]) -> None:
    lines = answers_of(report.rows)
    width = 0.8 / max(1, len(lines))
    for place, (title, found) in enumerate(lines.items()):
        for panel, protocol in enumerate(protocols):
            values = [errors.error_percent for row, errors in found if row.protocol == protocol]
            if values:
                axes.bar(panel + place * width, np.mean(values), width, color=colours[title])
    axes.set_xticks([panel + 0.4 for panel in range(len(protocols))], protocols, fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def _known(title: str, colours: Mapping[str, Any]) -> str:
    return title if title in colours else next(iter(colours))
