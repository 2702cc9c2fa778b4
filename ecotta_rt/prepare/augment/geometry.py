"""Where things stand in the frame: shifts, mirror images, and what is hidden."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ecotta_rt.prepare.augment.colour import where
from ecotta_rt.prepare.augment.draws import Draws

__all__ = ["erase", "flip", "shift"]


def flip(frames: Tensor, strength: float, draws: Draws) -> Tensor:
    """The mirror image, with probability `strength`."""
    return where(draws.chosen(strength), frames.flip(3), frames)


def shift(frames: Tensor, strength: float, draws: Draws) -> Tensor:
    """Moved by up to the share `strength` of the side, each way; what comes in is black. 0.125 is 4 of 32 pixels."""
    count, _, height, width = frames.shape
    rows, columns = int(strength * height), int(strength * width)
    padded = F.pad(frames, (columns, columns, rows, rows))
    top, left = draws.below(2 * rows + 1), draws.below(2 * columns + 1)
    y, x = top[:, None] + torch.arange(height), left[:, None] + torch.arange(width)
    picked = padded[torch.arange(count)[:, None, None], :, y[:, :, None], x[:, None, :]]
    return picked.permute(0, 3, 1, 2)


def erase(frames: Tensor, strength: float, draws: Draws) -> Tensor:
    """A rectangle of 0.02 to 0.3 of the frame in one random colour, with probability `strength`.

    Source:
        Zhong et al. 2020, Random Erasing, arXiv 1708.04896, algorithm 1.
    """
    _, channels, height, width = frames.shape
    area, ratio = draws.uniform(0.02, 0.3), torch.exp(draws.uniform(-1.2, 1.2))
    tall, wide = (area * ratio).sqrt().clamp_max(1), (area / ratio).sqrt().clamp_max(1)
    y = _between(draws.uniform() * (1 - tall), tall, height)
    x = _between(draws.uniform() * (1 - wide), wide, width)
    hidden = y[:, None, :, None] & x[:, None, None, :] & draws.chosen(strength).view(-1, 1, 1, 1)
    return torch.where(hidden, draws.uniform(shape=(channels, 1, 1)), frames)


def _between(start: Tensor, length: Tensor, size: int) -> Tensor:
    places = (torch.arange(size) + 0.5) / size
    return (places >= start[:, None]) & (places < (start + length)[:, None])
