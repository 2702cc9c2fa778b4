"""Draw the weights of source networks, a bar each, into a PNG or SVG file."""

from pathlib import Path
from typing import TYPE_CHECKING

from ecotta_rt.files.figure import check_figure, save_figure
from ecotta_rt.messages import printable

if TYPE_CHECKING:
    from ecotta_rt.student.ranking import Ranking

__all__ = ["draw_weights_plot"]


def draw_weights_plot(ranking: "Ranking", path: Path) -> None:
    """Scores with their standard errors on the left, weights on the right, the nearest network on top.

    Args:
        ranking: At least one source.
        path: Ends in .png or .svg.

    Raises:
        UsageError, Unavailable: As `check_figure`.
        TransferError: The file cannot be written.
    """
    check_figure(path)
    from matplotlib.figure import Figure  # no pyplot: nothing global, no window

    first = ranking.measures[0]
    names = [printable(one.name).replace("$", r"\$") for one in ranking.sources]
    figure = Figure(figsize=(8, 1.2 + 0.32 * len(names)), dpi=150, layout="constrained")
    scores, weights = figure.subplots(1, 2, sharey=True)
    values = [one.scores[first] for one in ranking.sources]
    scores.barh(range(len(names)), values, xerr=[one.error or 0.0 for one in ranking.sources], color="#0072B2")
    scores.set_xlabel(f"{first}, ± standard error")
    weights.barh(range(len(names)), [one.weight for one in ranking.sources], color="#D55E00")
    weights.set_xlabel(f"weight (power {ranking.power:g})")
    weights.set_xlim(0, 1)
    scores.set_yticks(range(len(names)), names)
    scores.invert_yaxis()
    figure.suptitle(f"{ranking.pictures} labelled pictures of {ranking.classes} classes", fontsize=10)
    save_figure(figure, path)
