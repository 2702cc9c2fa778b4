"""How sure a network is for how often it is right: one number, measured with labels.

    p at temperature T:   p^(1/T) / sum p^(1/T)

Above 1 it makes a network less sure that is too sure of itself.

Source:
    Guo et al. 2017, On calibration of modern neural networks (arXiv 1706.04599), section 4.2.
"""

import numpy as np
from numpy.typing import NDArray

from ecotta_rt.errors import UsageError

__all__ = ["fitted_temperature"]

_CANDIDATES = np.geomspace(0.25, 8, 241)  # steps of 1.5 %
_LEAST = 1e-30


def fitted_temperature(probabilities: NDArray[np.floating], labels: NDArray[np.integer]) -> float:
    """The temperature at which the true classes of some frames were foreseen best: the least mean of -ln p.

    Args:
        probabilities: `[N, C]`, the network's; of frames as different as those to come.
        labels: int `[N]`, the true classes.

    Returns:
        In [0.25, 8].

    Raises:
        UsageError: No frames, or not as many labels.
    """
    if len(labels) == 0 or probabilities.shape[:1] != labels.shape:
        raise UsageError(f"{len(probabilities)} answers and {len(labels)} labels: give as many, some hundred or more")
    logarithms = np.log(np.maximum(probabilities.astype(np.float64), _LEAST))
    own = logarithms[np.arange(len(labels)), labels]
    logarithms, own = logarithms - logarithms.max(axis=1, keepdims=True), own - logarithms.max(axis=1)
    losses = [np.mean(np.log(np.exp(logarithms / t).sum(axis=1)) - own / t) for t in _CANDIDATES]
    return float(_CANDIDATES[int(np.argmin(losses))])
