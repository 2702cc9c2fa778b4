"""Statistics for the norms of a network that has been made narrower.

Source:
    Yu and Huang 2019, Universally Slimmable Networks, arXiv 1903.05134, section 3.3: statistics of the wide network do
    not fit, and the mean over some batches, each weighing the same, does.
"""

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ecotta_rt.errors import UsageError

__all__ = ["recalibrate", "recalibrate_on"]

_BATCH = 128


@torch.no_grad()
def recalibrate(network: nn.Module, batches: Iterable[Tensor]) -> nn.Module:
    """Replace the running statistics of each batch norm by their mean over `batches`, in place.

    Weights stay as they are. While a batch runs, norms take its statistics, as they did in training; everything else,
    a dropout say, is in evaluation mode.

    Args:
        network: From `narrow`, say.
        batches: float32 `[N, C, H, W]` in [0, 1], not augmented and without labels: frames of where it will be used.
            N at least 2.

    Returns:
        `network`, in evaluation mode.

    Raises:
        UsageError: No batch, or one of a single frame.
    """
    norms = [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    network.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean over all batches, not a moving one
        norm.train()
    count = 0
    try:
        for batch in batches:
            if len(batch) < 2:
                raise UsageError("a batch of one frame has no statistics: give batches of at least 2")
            network(batch)
            count += 1
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
            norm.eval()
    if not count:
        raise UsageError("statistics of a width need frames, and there are none")
    return network


def recalibrate_on(network: nn.Module, frames: NDArray[np.uint8]) -> nn.Module:
    """`recalibrate` on frames uint8 `[N, H, W, C]`, in an order of its own: what lies between batches would be lost."""
    mixed = np.random.default_rng(0).permutation(len(frames))
    parts = np.array_split(frames[mixed], max(1, round(len(frames) / _BATCH)))  # each counts as much as another
    return recalibrate(network, (torch.from_numpy(part).permute(0, 3, 1, 2) / 255 for part in parts))
