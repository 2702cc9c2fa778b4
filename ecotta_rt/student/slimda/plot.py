"""Draw what the search found: error estimate against memory and against time, the chosen width marked."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ecotta_rt.files.figure import check_figure, save_figure
from ecotta_rt.student.slimda.device_cost import Cost, Measured
from ecotta_rt.student.slimda.search import Candidate, pareto

__all__ = ["draw_widths"]

_MIB = 1 << 20
_ALL, _BEST, _CHOSEN = "#999999", "#0072B2", "#D55E00"  # of Okabe and Ito


def draw_widths(candidates: Sequence[Candidate], chosen: Measured | None, path: Path, title: str) -> None:
    """Two panels that share the error axis; those on the Pareto front are joined.

    Args:
        candidates: From `search`.
        chosen: The one that was exported, with its planned memory and measured time.
        path: Ends in .png or .svg.
        title: Of the picture.

    Raises:
        UsageError, Unavailable, TransferError: As `check_figure`.
    """
    check_figure(path)
    from matplotlib.figure import Figure  # no pyplot: nothing global, no window

    figure = Figure(figsize=(8, 3.4), dpi=150, layout="constrained")
    memory, spent = figure.subplots(1, 2, sharey=True)
    best = pareto(candidates)
    panels: tuple[tuple[Any, Callable[[Cost], float], str], ...] = (
        (memory, lambda cost: cost.peak_bytes / _MIB, "process while adapting (MiB, planned)"),
        (spent, lambda cost: cost.ms, "adapting step (ms a frame, this machine)"),
    )
    for axes, of, label in panels:
        axes.plot([of(one.cost) for one in candidates], [one.upem for one in candidates], "o", color=_ALL, markersize=3)
        axes.plot([of(one.cost) for one in best], [one.upem for one in best], "o-", color=_BEST, markersize=4)
        known = next((one for one in candidates if chosen is not None and one.widths == chosen.widths), None)
        if chosen is not None and known is not None:
            axes.plot([of(chosen.cost)], [known.upem], "D", color=_CHOSEN, markersize=7, label="chosen")
            axes.legend(frameon=False)
        axes.set_xlabel(label)
        axes.grid(color="#dddddd", linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    memory.set_ylabel("error estimate (UPEM)")
    figure.suptitle(title, fontsize=11)
    save_figure(figure, path)
