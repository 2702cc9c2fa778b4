"""Input normalisation as the first layer of a network, so that every network here takes frames in [0, 1]."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ecotta_rt.errors import UsageError

__all__ = ["Normalise", "Normalised"]


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


class Normalised(nn.Module):
    """A network that wants normalised frames, as one that takes frames in [0, 1].

    Its two vectors are part of the state dict, unlike those of `Normalise` alone: a warmed-up state must not be taken
    for that of a network which was normalised otherwise.

    Args:
        network: Taken over, with its `blocks` and `cuts` where it has them.
        mean: Of the frames, in [0, 1]: one number a channel, or one for all.
        std: Standard deviation, as `mean`.
        channels: Of the frames.

    Raises:
        UsageError: A wrong count of numbers, or numbers out of range.
    """

    def __init__(self, network: nn.Module, mean: Sequence[float], std: Sequence[float], channels: int) -> None:
        super().__init__()
        self.normalise = Normalise(_by_channel("mean", mean, channels), _by_channel("std", std, channels))
        for name in ("mean", "std"):
            self.normalise.register_buffer(name, getattr(self.normalise, name))
        self.network = network
        if hasattr(network, "blocks"):
            self.blocks = tuple(f"network.{path}" for path in network.blocks)  # type: ignore[union-attr]
        if hasattr(network, "cuts"):
            self.cuts = network.cuts

    def forward(self, frames: Tensor) -> Tensor:
        logits: Tensor = self.network(self.normalise(frames))
        return logits


def _by_channel(name: str, values: Sequence[float], channels: int) -> tuple[float, ...]:
    if len(values) == 1:
        values = tuple(values) * channels
    low = 0.0 if name == "std" else -1e3
    if len(values) != channels or not all(low < value < 1e3 for value in values):
        above = ", above 0" if name == "std" else ""
        raise UsageError(
            f"{name}={list(values)}: needs {channels} finite numbers, one a channel{above}; or one for all"
        )
    return tuple(values)
