"""How sure a network is for how often it is right: one number, measured with labels.

    p at temperature T:   p^(1/T) / sum p^(1/T)

Above 1 it makes a network less sure that is too sure of itself. Taken is the T at which the mean probability of the
answers is the share of them that are right. The likelihood, by which a temperature is usually fitted, weighs the frames
otherwise; a mean is what the signs of a stream tell.

Source:
    Guo et al. 2017, On calibration of modern neural networks (arXiv 1706.04599), section 4.2, for the temperature.
"""

import numpy as np
from numpy.typing import NDArray

from ecotta_rt.errors import UsageError

__all__ = ["fitted_temperature"]

_LEAST, _MOST = 0.25, 8.0
_HALVINGS = 30
_LEAST_PROBABILITY = 1e-30


def fitted_temperature(probabilities: NDArray[np.floating], labels: NDArray[np.integer]) -> float:
    """The temperature at which a network is as sure of some frames as it is right.

    Args:
        probabilities: `[N, C]`, the network's; of frames as different as those to come.
        labels: int `[N]`, the true classes.

    Returns:
        In [0.25, 8]; an end where none within is enough.

    Raises:
        UsageError: No frames, or not as many labels.
    """
    if len(labels) == 0 or probabilities.shape[:1] != labels.shape:
        raise UsageError(f"{len(probabilities)} answers and {len(labels)} labels: give as many, some hundred or more")
    right = float((probabilities.argmax(axis=1) == labels).mean())
    logarithms = np.log(np.maximum(probabilities.astype(np.float64), _LEAST_PROBABILITY))
    logarithms -= logarithms.max(axis=1, keepdims=True)  # 0 at the answer
    low, high = np.log(_LEAST), np.log(_MOST)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        sure = float(np.mean(1 / np.exp(logarithms / np.exp(middle)).sum(axis=1)))
        low, high = (middle, high) if sure > right else (low, middle)
    return float(np.exp((low + high) / 2))
