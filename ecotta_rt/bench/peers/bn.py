"""BN: normalise with the statistics of the test batch, and learn nothing.

Source: Schneider et al. 2020, Improving robustness against common corruptions by covariate shift adaptation, arXiv
2006.16971, with no source samples mixed in (N = 0); Nado et al. 2020, Evaluating prediction-time batch normalization
for robustness under covariate shift, arXiv 2006.10963.
"""

import copy

import torch
from torch import Tensor, nn

from ecotta_rt.bench.peers.batch_norm import use_batch_statistics
from ecotta_rt.bench.peers.checks import input_channels, require_batch

__all__ = ["BatchNormStatistics"]


class BatchNormStatistics:
    """The network with batch statistics in every batch norm.

    Args:
        network: Takes frames `[N, C, H, W]` in [0, 1], returns logits. Copied; the caller's stays untouched.
    """

    name = "bn"
    normalisation = "batch"
    trainable_parameters = 0

    def __init__(self, network: nn.Module) -> None:
        self.network = copy.deepcopy(network).requires_grad_(False)
        use_batch_statistics(self.network)
        self._channels = input_channels(self.network)

    def __call__(self, frames: Tensor) -> Tensor:
        require_batch(frames, self._channels)
        with torch.no_grad():
            logits: Tensor = self.network(frames)
        return logits

    def begin_corruption(self, corruption: str) -> None:
        pass

    def reset(self) -> None:
        pass  # nothing is carried from one batch to the next
