"""Draw streams into a PNG or SVG file: a panel a protocol with errors over time, and the means as bars."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ecotta_rt.bench.streams.figures import WINDOW
from ecotta_rt.bench.streams.protocols import PROTOCOLS
from ecotta_rt.bench.streams.report import answers_of
from ecotta_rt.bench.streams.results import StreamReport, StreamRow
from ecotta_rt.files.figure import check_figure, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw_streams"]

_COLUMNS = 2
_SMOOTHED = 10  # windows of a running mean: single ones scatter by four points

Colours = Mapping[str, Any]


def draw_streams(report: StreamReport, path: Path) -> None:
    """Draw the rows of the longest streams in a report; lines and bars are means over seeds.

    Args:
        report: At least one row.
        path: Ends in .png or .svg.

    Raises:
        UsageError, Unavailable, TransferError: As `ecotta_rt.bench.plot.draw_plot`.
    """
    check_figure(path)
    from matplotlib import color_sequences
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    shown = next(iter(report.settings().values()))
    protocols = [name for name in PROTOCOLS if any(row.protocol == name for row in shown)]
    colours = dict(zip(answers_of(shown), color_sequences["tab20"] * 9, strict=False))
    lines = -(-len(protocols) // _COLUMNS)
    figure = Figure(figsize=(6.5 * _COLUMNS, 3.2 * (lines + 1)), dpi=120, layout="constrained")
    grid = figure.add_gridspec(lines + 1, _COLUMNS)
    for place, name in enumerate(protocols):
        axes = figure.add_subplot(grid[place // _COLUMNS, place % _COLUMNS])
        _draw_time(axes, [row for row in shown if row.protocol == name], colours)
        axes.set_title(name, fontsize=9)
    _draw_bars(figure.add_subplot(grid[lines, :]), shown, protocols, colours)
    figure.suptitle(f"{report.subject.network} on {report.subject.images}: error (%)")
    handles = [Patch(color=colour, label=title) for title, colour in colours.items()]
    figure.legend(handles=handles, loc="outside right upper", frameon=False, fontsize=7)
    save_figure(figure, path)


def _draw_time(axes: "Axes", rows: Sequence[StreamRow], colours: Colours) -> None:
    """The lines of one protocol."""
    for title, found in answers_of(rows).items():
        whole = [errors.windows[:-1] or errors.windows for _, errors in found]  # the last may have fewer frames
        error = 100 / WINDOW * np.mean([line for line in whole if len(line) == len(whole[0])], axis=0)
        width = min(_SMOOTHED, len(error))
        smooth = np.convolve(error, np.full(width, 1 / width), mode="valid")
        frames = WINDOW * (np.arange(len(smooth)) + width)
        axes.plot(frames, smooth, color=colours[title], linewidth=1, marker="." if len(smooth) < _SMOOTHED else "")
    axes.set_xlabel(f"valid frames (running mean of {_SMOOTHED * WINDOW})", fontsize=7)
    _make_plain(axes)


def _draw_bars(axes: "Axes", rows: Sequence[StreamRow], protocols: Sequence[str], colours: Colours) -> None:
    lines = answers_of(rows)
    width = 0.8 / len(lines)
    for place, (title, found) in enumerate(lines.items()):
        for panel, protocol in enumerate(protocols):
            values = [errors.error_percent for row, errors in found if row.protocol == protocol]
            if values:
                at = panel + (place - (len(lines) - 1) / 2) * width
                axes.bar(at, np.mean(values), width, color=colours[title])
    axes.set_xticks(range(len(protocols)), protocols, fontsize=8)
    _make_plain(axes)


def _make_plain(axes: "Axes") -> None:
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
