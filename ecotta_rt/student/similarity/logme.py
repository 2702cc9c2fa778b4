"""LogME: the evidence that linear models give from features to labels, each class against the others.

    w ~ N(0, I/a),  y | F, w ~ N(F w, I/b)   ->   log p(y | F, a, b) / N at its maximum over a and b, mean over classes

The maximum is found by MacKay's fixed point, in the singular directions of F.

Source:
    You, Liu, Wang, Long 2021, LogME: Practical Assessment of Pre-trained Models for Transfer Learning,
    arXiv 2102.11005, equation 2 and algorithm 1; the fixed point on singular values as in arXiv 2110.10545.
"""

import numpy as np
from numpy.typing import NDArray

from ecotta_rt.student.similarity.probe import Probe

__all__ = ["log_evidence", "logme"]

_STEPS, _CLOSE = 100, 1e-6
_LEAST, _MOST = 1e-9, 1e9
"""Bounds of a and b: features that foretell nothing send a to infinity, such that foretell all send b there."""


def logme(probe: Probe) -> float:
    """The mean over classes of the log evidence a picture; no bounds, comparable for the same labels alone."""
    largest = float(np.abs(probe.features).max())
    left, values, _ = np.linalg.svd(probe.features / (largest or 1.0), full_matrices=False)
    return float(np.mean([_best_evidence(left, values, labels) for labels in probe.one_hot().T]))


def _best_evidence(left: NDArray[np.float64], values: NDArray[np.float64], labels: NDArray[np.float64]) -> float:
    """At the fixed point; `labels` float64 `[N]` of 0 and 1."""
    count, squares = len(labels), np.square(values)
    along = np.square(left.T @ labels)
    outside = max(float(labels @ labels - along.sum()), 0.0)  # of the labels, what no feature can reach
    a, b = 1.0, 1.0
    for _ in range(_STEPS):
        before = a / b
        effective = float((b * squares / (a + b * squares)).sum())
        weights = float((b * b * squares * along / np.square(a + b * squares)).sum())  # |m|^2
        residue = float((along * np.square(a / (a + b * squares))).sum()) + outside
        a = float(np.clip(effective / max(weights, _LEAST), _LEAST, _MOST))
        b = float(np.clip((count - effective) / max(residue, _LEAST), _LEAST, _MOST))
        if abs(a / b - before) <= _CLOSE * before:
            break
    return log_evidence(squares, along, outside, count, a, b)


def log_evidence(
    squares: NDArray[np.float64], along: NDArray[np.float64], outside: float, count: int, a: float, b: float
) -> float:
    """The logarithm of N(y; 0, I/b + F F'/a), over N.

    Args:
        squares: Squared singular values of F, float64 `[R]`.
        along: Squared components of y along its left singular vectors, float64 `[R]`.
        outside: |y|^2 beyond those.
        count: N.
        a: Precision of the weights.
        b: Precision of the noise.
    """
    variances = 1 / b + squares / a
    beyond = count - len(squares)
    logarithms = float(np.log(variances).sum()) - beyond * float(np.log(b))
    quadratic = float((along / variances).sum()) + b * outside
    return -(logarithms + quadratic + count * float(np.log(2 * np.pi))) / (2 * count)
