"""Source: the trained network as it is, the control that nothing adapts."""

import copy

import torch
from torch import Tensor, nn

from ecotta_rt.bench.peers.checks import input_channels, require_frames

__all__ = ["Source"]


class Source:
    """The network in evaluation mode, with the statistics of its training.

    Args:
        network: Takes frames `[N, C, H, W]` in [0, 1], returns logits. Copied; the caller's stays untouched.
    """

    name = "source"
    normalisation = "source"
    trainable_parameters = 0

    def __init__(self, network: nn.Module) -> None:
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self._channels = input_channels(self.network)

    def __call__(self, frames: Tensor) -> Tensor:
        require_frames(frames, self._channels)
        with torch.no_grad():
            logits: Tensor = self.network(frames)
        return logits

    def begin_corruption(self, corruption: str) -> None:
        pass

    def reset(self) -> None:
        pass
