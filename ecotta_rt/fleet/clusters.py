"""Which states come from the same kind of place: those whose norm statistics are alike.

Two states are as far apart as their means and standard deviations are, in standard deviations of the median state, root
of the mean square over all channels. How many kinds there are is found, unless it is said: of 1 to `MOST` clusters of
average linkage those with the best silhouette, and one where no division is worth that name.

Source:
    Sokal and Michener 1958, A statistical method for evaluating systematic relationships, for average linkage (UPGMA).
    Rousseeuw 1987, Silhouettes; Kaufman and Rousseeuw 1990, Finding groups in data, table 4: below 0.25 there is no
    substantial structure, above 0.5 a reasonable one, between them a weak one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ecotta_rt.errors import InputFileError, UsageError
from ecotta_rt.fleet.flat import FlatState

__all__ = ["MOST", "MOST_STATES", "WORTH", "Clusters", "clusters_of", "require_few"]

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]

MOST = 8
MOST_STATES = 4000
"""Distances of all pairs are held: a table of so many takes 122 MiB, and there are a few of them."""

WORTH = 0.4
"""The least silhouette of a division. On ResNet-20 seven boards, three of them in noise, had 0.50 to 0.52 for that
division; five boards in five places, of which none is like another, had 0.25 at most (benchmarks/measure_fleet.py)."""

_EPSILON = 1e-5  # that of the norms


@dataclass(frozen=True, eq=False)
class Clusters:
    """A division of states.

    Attributes:
        labels: int `[n]`, which cluster each is in; 0 is the largest.
        silhouette: Of the best division in [-1, 1], mean over the states; of two clusters and more even where there is
            one, since none was worth it. 0 where nothing can be divided.
        picture: float64 `[n, 2]`, where each stands along the two directions in which states differ most.
    """

    labels: NDArray[np.intp]
    silhouette: float
    picture: Doubles


def clusters_of(states: Sequence[FlatState], asked: int | None = None) -> Clusters:
    """Divide the states.

    Args:
        states: At least one, all of one arrangement.
        asked: How many clusters, 2 or more; None: find out.

    Raises:
        UsageError: More than `MOST_STATES`, or states that cannot be divided into so many.
        InputFileError: Statistics so large that no distances can be told.
    """
    require_few(count := len(states))
    points = _points(states)
    products = _products(points)
    if not np.isfinite(products).all():
        raise InputFileError(f"{states[0].name} and others: their statistics are too large to be compared")
    apart = _distances(products)
    if asked is not None:
        return _so_many(apart, asked, _picture(products))
    if count < 3 or not apart.any():
        return Clusters(np.zeros(count, np.intp), 0.0, np.zeros((count, 2)))
    best = Clusters(np.zeros(count, np.intp), 0.0, _picture(products))
    divided = _divider(apart)
    for clusters in range(2, min(MOST, count - 1) + 1):
        labels = divided(clusters)
        silhouette = _silhouette(apart, labels)
        if silhouette > best.silhouette:
            best = Clusters(labels, silhouette, best.picture)
    return best if best.silhouette >= WORTH else Clusters(np.zeros(count, np.intp), best.silhouette, best.picture)


def _so_many(apart: Doubles, asked: int, picture: Doubles) -> Clusters:
    """A division into as many clusters as are asked for."""
    labels = _divider(apart)(asked) if len(apart) > 1 else np.zeros(1, np.intp)
    if (found := int(labels.max()) + 1) < asked:
        raise UsageError(
            f"{asked} kinds of place: these {len(labels)} states divide into {found}; ask for another number"
        )
    return Clusters(labels, _silhouette(apart, labels), picture)


def _divider(apart: Doubles) -> Callable[[int], NDArray[np.intp]]:
    """Labels by the number of clusters, at most so many, by average linkage."""
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import squareform

    tree = linkage(squareform(apart, checks=False), "average")
    return lambda clusters: _largest_first(fcluster(tree, clusters, "maxclust"))


def require_few(count: int) -> None:
    """Raise `UsageError` for more than `MOST_STATES`."""
    if count > MOST_STATES:
        raise UsageError(f"{count} states are more than can be compared pair by pair; cluster at most {MOST_STATES}")


def _points(states: Sequence[FlatState]) -> Floats:
    """float32 `[n, 2 C]`: means and standard deviations of each, in standard deviations of the median state."""
    arrangement = states[0].arrangement
    channels, first = len(arrangement.means), arrangement.parameter_count
    points = np.empty((len(states), 2 * channels), np.float32)
    for point, state in zip(points, states, strict=True):
        statistics = state.vector(first)
        point[:channels] = statistics[arrangement.means - first]
        point[channels:] = np.sqrt(statistics[arrangement.variances - first])
    unit = np.sqrt(np.square(np.median(points[:, channels:], axis=0)) + _EPSILON)
    points -= points.mean(axis=0, dtype=np.float64).astype(np.float32)  # nearer 0 differences lose fewer digits
    points /= np.concatenate([unit, unit])
    return points


def _products(points: Floats) -> Doubles:
    """float64 `[n, n]`, of each two points, mean over the coordinates."""
    with np.errstate(over="ignore", invalid="ignore"):  # what is too large is refused
        products: Doubles = (points @ points.T).astype(np.float64) / max(1, points.shape[1])
    return products


def _distances(products: Doubles) -> Doubles:
    """float64 `[n, n]`, roots of the mean square of the differences."""
    squares = products.diagonal()
    apart: Doubles = np.sqrt(np.maximum(squares[:, None] + squares - 2 * products, 0))
    np.fill_diagonal(apart, 0)
    return apart


def _largest_first(labels: NDArray[np.integer]) -> NDArray[np.intp]:
    """Numbered from 0 by size, of equal ones by their first state."""
    found, first, members, sizes = np.unique(labels, return_index=True, return_inverse=True, return_counts=True)
    order = np.lexsort((first, -sizes))
    number = np.empty(len(found), np.intp)
    number[order] = np.arange(len(found))
    return number[members]


def _silhouette(apart: Doubles, labels: NDArray[np.intp]) -> float:
    """Mean over the states of (b - a) / max(a, b): a to its own cluster, b to the nearest other; 0 of one alone."""
    sizes = np.bincount(labels)
    to_clusters = np.stack([apart[:, labels == label].sum(axis=1) for label in range(len(sizes))], axis=1)
    rows = np.arange(len(labels))
    own = to_clusters[rows, labels] / np.maximum(sizes[labels] - 1, 1)
    means = to_clusters / sizes
    means[rows, labels] = np.inf
    other = means.min(axis=1)
    larger = np.maximum(own, other)
    widths = np.where(sizes[labels] > 1, (other - own) / np.where(larger > 0, larger, 1), 0)
    return float(widths.mean())


def _picture(products: Doubles) -> Doubles:
    """The two principal components, from the products: there are more channels than states."""
    from scipy.linalg import eigh

    count = len(products)
    centred = products - products.mean(axis=0) - products.mean(axis=1)[:, None] + products.mean()
    values, vectors = eigh(centred, subset_by_index=(count - 2, count - 1))
    found: Doubles = vectors[:, ::-1] * np.sqrt(np.maximum(values[::-1], 0))
    return found
