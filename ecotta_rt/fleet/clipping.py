"""Centred clipping: the mean of states of which none is further from the median of all than is usual.

With the coordinate-wise median m of the states x_j, of parameters, means and standard deviations, their distances d_j
from it (see `robust`), and the median r of these, half of the states are drawn in,

    x_j' = m + min(1, r / d_j) (x_j - m)

and the x_j' averaged and pooled as states that count alike. So a state that is rare weighs less, and is not cut off as
at the ends of a trimmed mean. Parameters and statistics have a radius each.

The result is no further than r from m, by the same distance (Minkowski's inequality), wherever states are. Hostile
ones, a share h of all, move the means by h r at most and the deviations by about h r, but by up to sqrt(h) r where it
is all in few channels, since variances are pooled; and both by what they move m and r. There is one radius for all C
channels: within it a single one may go r sqrt(2 C) deviations.

Where more than half of the states stand still, r is the largest distance but for those of a fifth: so what a fifth or
less have learned does not count there, since hostile ones may be as many, and what more have learned does.

Source:
    Karimireddy et al. 2021, Learning from history for Byzantine robust optimization, ICML, equation 5; there the centre
    is the last step's, here, where there is none, the median.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ecotta_rt.fleet.flat import FlatState
from ecotta_rt.fleet.pooling import PooledMoments, WeightedMean
from ecotta_rt.fleet.robust import TRIMMED_SHARE, Distances, distances

__all__ = ["clipped_mean"]

Doubles = NDArray[np.float64]


def clipped_mean(states: Sequence[FlatState], far: Distances | None = None) -> Doubles:
    """The clipped mean of the states' vectors.

    Args:
        states: At least one, all of one arrangement.
        far: `distances(states)`, where they are known.

    Returns:
        float64 `[size]`; of equal states their own, of two their mean.
    """
    far = distances(states) if far is None else far
    arrangement, centre = states[0].arrangement, far.centre
    count, means, variances = arrangement.parameter_count, arrangement.means, arrangement.variances
    parameters, moments = WeightedMean(count), PooledMoments(len(means))
    of_parameters, of_statistics = _factors(far.parameters), _factors(far.statistics)
    usual = np.sqrt(centre[variances])
    for state, for_parameters, for_statistics in zip(states, of_parameters, of_statistics, strict=True):
        vector = state.vector()
        parameters.add(vector[:count], for_parameters)
        its_means, its_variances = vector[means], vector[variances]
        if for_statistics < 1:  # deviations, and not variances: a variance as far as r / d of its way is still far
            its_means = centre[means] + for_statistics * (its_means - centre[means])
            its_variances = np.square(usual + for_statistics * (np.sqrt(its_variances.astype(np.float64)) - usual))
        moments.add(its_means, its_variances, 1)
    # The mean of m + f_j (x_j - m) is that of all x_j with weights f_j, and of m with what they lack of 1.
    parameters.add(centre[:count], float((1 - of_parameters).sum()))
    result = np.empty(arrangement.size)
    result[:count], result[means], result[variances] = parameters.value, moments.means, moments.variances
    return result


def _factors(apart: Doubles) -> Doubles:
    """float64 `[n]`: by how much each is drawn in; 1 of those that are no further than the radius."""
    count, factors = len(apart), np.ones(len(apart))
    if count > 2:  # two are as far from their median as each other, but for rounding
        radius = np.median(apart) or np.sort(apart)[count - 1 - max(int(TRIMMED_SHARE * count), 1)]
        factors[apart > radius] = radius / apart[apart > radius]
    return factors
