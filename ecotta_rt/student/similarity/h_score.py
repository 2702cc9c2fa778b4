"""H-score with a shrunk covariance: how much of the features' variance lies between the classes?

    H = trace(S^-1 (1 - a) B),  S = (1 - a) C + a trace(C)/D I

C is the covariance of the features and B that of their class means. Without shrinkage (a = 0) C has no inverse once
there are fewer pictures than features, and by its pseudo-inverse every source scores the same, the highest value.
a is Ledoit's and Wolf's, from the data.

Source:
    Bao et al. 2019, An Information-Theoretic Approach to Transferability, ICIP (the score);
    Ibrahim, Ponomareva, Mazumder 2021, Newer is not always better, arXiv 2110.06893, section 4 (the shrinkage);
    Ledoit, Wolf 2004, A well-conditioned estimator for large-dimensional covariance matrices (a).
"""

import numpy as np
from numpy.typing import NDArray

from ecotta_rt.student.similarity.probe import Probe

__all__ = ["h_score", "shrinkage"]


def h_score(probe: Probe) -> float:
    """From 0 to the number of classes less one; 0 where the features are all the same."""
    x = probe.features - probe.features.mean(0)
    largest = np.abs(x).max()
    if largest <= 1e-12 * np.abs(probe.features).max():
        return 0.0
    x /= largest
    y = probe.one_hot()
    share = shrinkage(x)
    means = (y.T @ x)[np.argmax(y, 1)] / y.sum(0)[np.argmax(y, 1), None]  # of the class of each picture
    covariance, between = x.T @ x / len(x), means.T @ means / len(x)
    level = float(np.trace(covariance)) / len(covariance)
    shrunk = (1 - share) * covariance + share * level * np.eye(len(covariance))
    return float(np.trace(np.linalg.pinv(shrunk, hermitian=True) @ between) * (1 - share))


def shrinkage(centred: NDArray[np.float64]) -> float:
    """Ledoit's and Wolf's share of the identity, in [0, 1], for centred data `[N, D]`."""
    count, dimensions = centred.shape
    covariance = centred.T @ centred / count
    level = float(np.trace(covariance)) / dimensions
    distance = float(np.square(covariance - level * np.eye(dimensions)).sum())
    # Mean over pictures of |x x' - C|^2, divided by N: |x x'|^2 is |x|^4.
    noise = (float(np.square(np.square(centred).sum(1)).mean()) - float(np.square(covariance).sum())) / count
    return 1.0 if distance <= 0 else min(max(noise, 0.0) / distance, 1.0)
