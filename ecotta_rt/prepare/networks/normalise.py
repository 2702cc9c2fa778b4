"""Input normalisation as the first layer of a network, so that every network here takes frames in [0, 1]."""

import torch
from torch import Tensor, nn

__all__ = ["Normalise"]


class Normalise(nn.Module):
    """(frames - mean) / std per channel.

    The two vectors are not part of the state dict: foreign checkpoints do not have them, and ours carry them as
    metadata (what a user got wrong most often in public code is exactly this preprocessing).
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1), persistent=False)

    def forward(self, frames: Tensor) -> Tensor:
        return (frames - self.mean) / self.std
