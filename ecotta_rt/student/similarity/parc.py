"""PARC: do pictures whose features are far apart have other labels?

    D1 = 1 - Pearson between the features of each two pictures,  D2 = the same of their one-hot labels
    PARC = 100 * Spearman(upper triangle of D1, upper triangle of D2)

The features are reduced to 32 dimensions by PCA, and each dimension is standardised. Pearson takes off the mean over
dimensions, so it sees the signs of the components, which no PCA determines: they are chosen as scikit-learn's PCA did
when the benchmark was made, the largest value of a component being positive.

Source:
    Bolya, Mittapalli, Hoffman 2021, Scalable Diverse Model Selection for Accessible Transfer Learning,
    arXiv 2111.06977, section 4; the reduction as in its benchmark. Chosen for weighting sources by Borup, Phoo,
    Hariharan 2023, arXiv 2304.12314.
"""

import numpy as np
from numpy.typing import NDArray

from ecotta_rt.student.similarity.probe import Probe
from ecotta_rt.student.similarity.ranks import spearman

__all__ = ["DIMENSIONS", "parc"]

DIMENSIONS = 32
"""Kept by the PCA, as far as there are pictures."""

_NULL = 1e-10  # of the largest singular value: a direction without variance, of which standardising would make noise
_DIGITS = 9  # of distances that are compared by rank: what differs by rounding alone has to tie


def parc(probe: Probe) -> float:
    """From -100 to 100. 0 where features vary in fewer than two directions: Pearson needs two."""
    reduced = _standardised(probe.features)
    if reduced.shape[1] < 2:
        return 0.0
    upper = np.triu_indices(len(reduced), 1)
    return 100.0 * spearman(_distances(reduced)[upper], _distances(probe.one_hot())[upper])


def _standardised(features: NDArray[np.float64]) -> NDArray[np.float64]:
    """Principal components of `[N, D]`, each with variance 1: `[N, at most 32]`."""
    left, values, _ = np.linalg.svd(features - features.mean(0), full_matrices=False)
    scale = max(float(values[0]), float(np.abs(features).max()))
    kept = min(DIMENSIONS, int((values > _NULL * scale).sum()))
    components = left[:, :kept] * np.sqrt(len(features))
    largest = np.take_along_axis(components, np.abs(components).argmax(0, keepdims=True), 0)
    signed: NDArray[np.float64] = components * np.sign(largest)
    return signed


def _distances(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """1 - Pearson of each two rows, `[N, N]`; a row without variance correlates with none."""
    centred = rows - rows.mean(1, keepdims=True)
    lengths = np.linalg.norm(centred, axis=1, keepdims=True)
    units = np.divide(centred, lengths, out=np.zeros_like(centred), where=lengths > _NULL)
    rounded: NDArray[np.float64] = np.round(1.0 - units @ units.T, _DIGITS)
    return rounded
