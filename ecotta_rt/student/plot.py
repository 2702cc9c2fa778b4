"""Draw what a training run told, epoch by epoch: losses above, signs that are shares below."""

from pathlib import Path

from ecotta_rt.files.figure import check_figure, save_figure
from ecotta_rt.student.training import History

__all__ = ["draw_curves"]

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#555555")  # of Okabe and Ito
_SHARES = ("confidence", "agreement")


def draw_curves(history: History, path: Path, title: str) -> None:
    """Draw a line for each thing told; refuses as `check_figure`."""
    check_figure(path)
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
    save_figure(figure, path)
