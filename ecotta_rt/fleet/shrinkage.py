"""Draw a merged state towards the source, the bundle's own state: as if the source were one more board.

A merged state has statistics for all places of the fleet, and those are not the ones of pictures that are like what
the network was trained on. With a share a of the source,

    parameters   theta = (1 - a) theta_merged + a theta_source
    means        mu = (1 - a) mu_merged + a mu_source
    variances    var = (1 - a) (var_merged + (mu_merged - mu)^2) + a (var_source + (mu_source - mu)^2)

which is the pooling of `pooling.py` with a source that has as many frames as make that share.

Source:
    Schneider et al. 2020, Improving robustness against common corruptions by covariate shift adaptation, NeurIPS,
    equation 2, for statistics of the source as so many more samples; ours also keeps the spread between the means.
"""

import numpy as np
from numpy.typing import NDArray

from ecotta_rt.fleet.flat import Arrangement
from ecotta_rt.fleet.pooling import PooledMoments, WeightedMean

__all__ = ["shrunk"]

Doubles = NDArray[np.float64]


def shrunk(
    merged: NDArray[np.floating], source: NDArray[np.floating], arrangement: Arrangement, share: float
) -> Doubles:
    """A merged state nearer to its source.

    Args:
        merged: float `[size]`, of an arrangement.
        source: float `[size]`, the bundle's own state in the same arrangement.
        arrangement: Of both.
        share: a in [0, 1]: 0 leaves the merged state as it is, 1 gives the source.

    Returns:
        float64 `[size]`. Where both are equal, so is the result, to the bit.
    """
    count, means, variances = arrangement.parameter_count, arrangement.means, arrangement.variances
    parameters, moments = WeightedMean(count), PooledMoments(len(means))
    for vector, weight in ((merged, 1 - share), (source, share)):
        parameters.add(vector[:count], weight)
        moments.add(vector[means], vector[variances], weight)
    result = np.empty(arrangement.size)
    result[:count], result[means], result[variances] = parameters.value, moments.means, moments.variances
    return result
