"""Draw how the states of a fleet lie to each other, and which were merged."""

from pathlib import Path

from ecotta_rt.files.figure import save_figure
from ecotta_rt.fleet.clusters import Clusters

__all__ = ["draw_clusters"]

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442", "#555555")  # Okabe and Ito


def draw_clusters(clusters: Clusters, path: Path) -> None:
    """Draw a point a state, as far from each other as two directions show, coloured by cluster.

    Args:
        clusters: Of a merge.
        path: As `check_figure` has passed it.

    Raises:
        TransferError: It cannot be written.
    """
    from matplotlib.figure import Figure  # no pyplot: nothing global, no window

    count = int(clusters.labels.max()) + 1
    figure = Figure(figsize=(6.5, 5), dpi=150, layout="constrained")
    axes = figure.subplots()
    for label in range(count):
        inside = clusters.labels == label
        size = int(inside.sum())
        name = f"kind {label + 1}, {size} state{'s' * (size != 1)}"
        first, second = clusters.picture[inside].T
        axes.scatter(first, second, s=28, color=_COLOURS[label % len(_COLOURS)], label=name)
    axes.set_xlabel("first principal component of the norm statistics (standard deviations)")
    axes.set_ylabel("second")
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    kinds = f"{count} kinds of place" if count > 1 else "one kind of place"
    kinds += f" (best division: silhouette {clusters.silhouette:.2f})"
    figure.suptitle(f"{len(clusters.labels)} states: {kinds}", fontsize=11)
    save_figure(figure, path)
