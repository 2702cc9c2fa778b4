"""Weighted means and pooled moments, one state after the other: only the result is held.

With weights n_j (numbers of frames, or given) and N their sum, over the states j:

    parameters   theta = sum n_j theta_j / N
    means        mu = sum n_j mu_j / N
    variances    var = sum n_j (var_j + (mu_j - mu)^2) / N

The last is the biased variance of all samples joined: the spread between the states belongs to it. Written as updates,
so that equal states give themselves back to the last bit (their differences are 0) and no difference of large numbers
is taken.

Source:
    training-free model merging, ECCV 2024, arXiv 2407.13771, its merging of buffers.
    Chan, Golub, LeVeque 1983, Algorithms for computing the sample variance, equation 2.1b, for the updates.
"""

import numpy as np
from numpy.typing import NDArray

__all__ = ["PooledMoments", "WeightedMean"]

Doubles = NDArray[np.float64]
Reals = NDArray[np.floating]


class WeightedMean:
    """The mean of vectors.

    Args:
        size: P.

    Attributes:
        value: float64 `[P]`, so far; 0 where nothing has come.
    """

    def __init__(self, size: int) -> None:
        self.value: Doubles = np.zeros(size)
        self._total, self._difference = 0.0, np.empty(size)

    def add(self, vector: Reals, weight: float) -> None:
        """Take one in.

        Args:
            vector: float `[P]`, finite.
            weight: 0 or more.
        """
        if weight:
            self._total += weight
            np.subtract(vector, self.value, out=self._difference)
            self._difference *= weight / self._total
            self.value += self._difference


class PooledMoments:
    """Mean and biased variance of the samples behind several means and variances.

    Args:
        size: C, channels.

    Attributes:
        means: float64 `[C]`, so far.
        variances: float64 `[C]`, so far.
    """

    def __init__(self, size: int) -> None:
        self.means: Doubles = np.zeros(size)
        self.variances: Doubles = np.zeros(size)
        self._total = 0.0

    def add(self, means: Reals, variances: Reals, weight: float) -> None:
        """Take in those of some samples.

        Args:
            means: float `[C]`, finite.
            variances: float `[C]`, biased, 0 or more.
            weight: How many samples they are, or in what proportion they are to count: 0 or more.
        """
        if weight:
            self._total += weight
            share = weight / self._total
            distance = means - self.means
            self.means += share * distance
            self.variances += share * (variances - self.variances)
            self.variances += share * (1 - share) * distance * distance
