"""AugMix on a whole batch at once.

Three chains of one to three random operations each, mixed with Dirichlet weights, then mixed with the clean frame by a
Beta weight. None of the operations is among the 15 test corruptions (no noise, blur, brightness or contrast).
Differences from the paper: operations act on groups of the batch, and the consistency loss (which triples the forward
passes) is left out.

Source: Hendrycks et al. 2020, AugMix, arXiv 1912.02781, Algorithm 1.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ecotta_rt.prepare.augment.draws import Draws, by_choice

__all__ = ["augmix"]

_CHAINS, _DEPTH = 3, 3


def augmix(frames: Tensor, strength: float, draws: Draws) -> Tensor:
    """Mix augmented copies of the frames; `strength` is how far operations go, the paper's 3 of 10 is 0.3."""
    # Dirichlet(1, ..., 1) is a normalised vector of exponentials; Beta(1, 1) is uniform.
    weights = draws.exponential((_CHAINS,))
    weights = weights / weights.sum(1, keepdim=True)
    share = draws.uniform(shape=(1, 1, 1))
    mixed = torch.zeros_like(frames)
    for chain in range(_CHAINS):
        augmented = frames
        depth = draws.below(_DEPTH) + 1
        for level in range(_DEPTH):
            augmented = _one_random_operation(augmented, depth > level, strength, draws)
        mixed += weights[:, chain].view(-1, 1, 1, 1) * augmented
    return (1 - share) * frames + share * mixed


def _one_random_operation(frames: Tensor, active: Tensor, strength: float, draws: Draws) -> Tensor:
    choice = torch.where(active, draws.below(len(_TONES) + len(_WARPS)), -1)
    level = draws.uniform(0.03, 1) * strength
    signed = level * (2.0 * draws.below(2) - 1)
    out = frames.clone()
    for which, places in by_choice(choice, len(_TONES)):
        out[places] = _TONES[which](frames[places], level[places].view(-1, 1, 1, 1))
    places = torch.nonzero(choice >= len(_TONES)).flatten()
    if len(places):
        out[places] = _warped(frames[places], choice[places] - len(_TONES), signed[places])
    return out


def _autocontrast(frames: Tensor, level: Tensor) -> Tensor:
    low, high = frames.amin((2, 3), keepdim=True), frames.amax((2, 3), keepdim=True)
    return (frames - low) / (high - low).clamp_min(1 / 255)


def _equalise(frames: Tensor, level: Tensor) -> Tensor:
    flat = frames.flatten(2)
    count = flat.shape[2]
    order, positions = torch.sort(flat, dim=2)
    ranks = torch.arange(count, dtype=flat.dtype).expand_as(flat) / (count - 1)
    # Equal values must share a rank (the background of an image is one flat area): take that of the last of the run.
    last = torch.searchsorted(order.contiguous(), order.contiguous(), right=True) - 1
    return torch.empty_like(flat).scatter_(2, positions, ranks.gather(2, last)).view_as(frames)


def _posterise(frames: Tensor, level: Tensor) -> Tensor:
    step = 2 ** (4 + (level * 4).floor())
    return ((frames * 255).round() / step).floor() * step / 255


def _solarise(frames: Tensor, level: Tensor) -> Tensor:
    return torch.where(frames < 1 - level, frames, 1 - frames)


_TONES = (_autocontrast, _equalise, _posterise, _solarise)
_WARPS = ("rotate", "shear x", "shear y", "move x", "move y")


def _warped(frames: Tensor, choice: Tensor, amount: Tensor) -> Tensor:
    """Choices as `_WARPS`: 30 degrees, a shear of 0.3 or a third of the frame at an amount of 1."""

    def at(warp: str, value: Tensor) -> Tensor:
        return torch.where(choice == _WARPS.index(warp), value, torch.zeros(()))

    angle = at("rotate", amount * math.radians(30))
    first = [angle.cos(), at("shear x", amount * 0.3) - angle.sin(), at("move x", amount * 2 / 3)]
    second = [at("shear y", amount * 0.3) + angle.sin(), angle.cos(), at("move y", amount * 2 / 3)]
    theta = torch.stack([torch.stack(first, 1), torch.stack(second, 1)], 1)
    grid = F.affine_grid(theta, list(frames.shape), align_corners=False)
    return F.grid_sample(frames, grid, padding_mode="zeros", align_corners=False)
