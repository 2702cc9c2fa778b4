"""The three noises: Gaussian, shot (Poisson) and impulse (salt and pepper).

Constants are those of CIFAR-10-C, one for each severity from 1 to 5.

Source:
    Hendrycks, Dietterich 2019, Benchmarking Neural Network Robustness to Common Corruptions and Perturbations,
    and the authors' `make_cifar_c.py`, which the set was made with.
"""

import numpy as np
from numpy.typing import NDArray

from ecotta_rt.data.corruptions.draws import Draws
from ecotta_rt.data.corruptions.pixels import Frames, to_bytes, to_unit

__all__ = ["gaussian_noise", "impulse_noise", "shot_noise"]

GAUSSIAN_STD = (0.04, 0.06, 0.08, 0.09, 0.10)  # of full scale
SHOT_PHOTONS = (500, 250, 100, 75, 50)  # at full scale
IMPULSE_SHARE = (0.01, 0.02, 0.03, 0.05, 0.07)  # of the values


def gaussian_noise(frames: Frames, severity: int, draws: Draws) -> Frames:
    """Normal noise of one strength everywhere, independent in every channel."""
    noise: NDArray[np.float64] = draws.normal(frames.shape[1:], std=GAUSSIAN_STD[severity - 1])
    noise += to_unit(frames)
    return to_bytes(noise)


def shot_noise(frames: Frames, severity: int, draws: Draws) -> Frames:
    """The noise of counting photons: its variance grows with the brightness."""
    photons = SHOT_PHOTONS[severity - 1]
    return to_bytes(draws.poisson(to_unit(frames) * photons) / photons)


def impulse_noise(frames: Frames, severity: int, draws: Draws) -> Frames:
    """Salt and pepper: some values, channel by channel, become 0 or 255 with equal chance."""
    hit = draws.uniform(frames.shape[1:]) <= IMPULSE_SHARE[severity - 1]
    salt = draws.uniform(frames.shape[1:]) <= 0.5
    return np.where(hit, np.where(salt, np.uint8(255), np.uint8(0)), frames)
