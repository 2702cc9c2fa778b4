"""AugMix on a whole batch at once, in torch.

Three chains of one to three random operations each, mixed with Dirichlet weights, then mixed with the clean frame by a
Beta weight. None of the operations is among the 15 test corruptions (no noise, blur, brightness or contrast).
Differences from the paper, both for two CPU cores: operations act on groups of the batch, and the consistency loss
(which triples the forward passes) is left out.

Source: Hendrycks et al. 2020, AugMix, arXiv 1912.02781, Algorithm 1.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["augmix"]

SEVERITY = 3  # of 10, the paper's setting for CIFAR


def augmix(frames: Tensor, generator: torch.Generator, chains: int = 3) -> Tensor:
    """Mix augmented copies of `frames`, float32 `[N, C, H, W]` in [0, 1]; returns the same shape and range."""
    count = frames.shape[0]
    # Dirichlet(1, ..., 1) is a normalised vector of exponentials; Beta(1, 1) is uniform.
    weights = torch.empty(count, chains).exponential_(generator=generator)
    weights = weights / weights.sum(1, keepdim=True)
    share = torch.rand(count, 1, 1, 1, generator=generator)
    mixed = torch.zeros_like(frames)
    for chain in range(chains):
        augmented = frames
        depth = torch.randint(1, 4, (count,), generator=generator)
        for level in range(3):
            augmented = _one_random_operation(augmented, depth > level, generator)
        mixed += weights[:, chain].view(-1, 1, 1, 1) * augmented
    return (1 - share) * frames + share * mixed


def _one_random_operation(frames: Tensor, active: Tensor, generator: torch.Generator) -> Tensor:
    choice = torch.randint(0, 9, (frames.shape[0],), generator=generator)
    out = frames.clone()
    for index, operation in enumerate((_autocontrast, _equalise, _posterise, _solarise)):
        group = torch.nonzero(active & (choice == index)).flatten()
        if len(group):
            out[group] = operation(frames[group], generator)
    group = torch.nonzero(active & (choice >= 4)).flatten()
    if len(group):
        out[group] = _geometric(frames[group], choice[group] - 4, generator)
    return out


def _levels(count: int, generator: torch.Generator) -> Tensor:
    return torch.empty(count).uniform_(0.1, SEVERITY, generator=generator) / 10


def _autocontrast(frames: Tensor, generator: torch.Generator) -> Tensor:
    low, high = frames.amin((2, 3), keepdim=True), frames.amax((2, 3), keepdim=True)
    return (frames - low) / (high - low).clamp_min(1 / 255)


def _equalise(frames: Tensor, generator: torch.Generator) -> Tensor:
    flat = frames.flatten(2)
    count = flat.shape[2]
    order, positions = torch.sort(flat, dim=2)
    ranks = torch.arange(count, dtype=flat.dtype).expand_as(flat) / (count - 1)
    # Equal values must share a rank (the background of an image is one flat area): take that of the last of the run.
    last = torch.searchsorted(order, order.contiguous(), right=True) - 1
    return torch.empty_like(flat).scatter_(2, positions, ranks.gather(2, last)).view_as(frames)


def _posterise(frames: Tensor, generator: torch.Generator) -> Tensor:
    bits = 4 - (_levels(len(frames), generator) * 4).floor().view(-1, 1, 1, 1)
    step = 2 ** (8 - bits)
    return ((frames * 255).round() / step).floor() * step / 255


def _solarise(frames: Tensor, generator: torch.Generator) -> Tensor:
    threshold = 1 - _levels(len(frames), generator).view(-1, 1, 1, 1)
    return torch.where(frames < threshold, frames, 1 - frames)


def _geometric(frames: Tensor, choice: Tensor, generator: torch.Generator) -> Tensor:
    level = _levels(len(frames), generator)
    sign = torch.randint(0, 2, level.shape, generator=generator) * 2.0 - 1
    amount = level * sign
    angle = amount * math.radians(30)
    theta = torch.zeros(len(frames), 2, 3)
    theta[:, 0, 0] = torch.where(choice == 0, angle.cos(), torch.ones(()))
    theta[:, 1, 1] = theta[:, 0, 0]
    theta[:, 0, 1] = torch.where(choice == 0, -angle.sin(), torch.where(choice == 1, amount * 0.3, torch.zeros(())))
    theta[:, 1, 0] = torch.where(choice == 0, angle.sin(), torch.where(choice == 2, amount * 0.3, torch.zeros(())))
    theta[:, 0, 2] = torch.where(choice == 3, amount * 2 / 3, torch.zeros(()))
    theta[:, 1, 2] = torch.where(choice == 4, amount * 2 / 3, torch.zeros(()))
    grid = F.affine_grid(theta, list(frames.shape), align_corners=False)
    return F.grid_sample(frames, grid, padding_mode="zeros", align_corners=False)
