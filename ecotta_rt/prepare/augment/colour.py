"""Colour jitter, blur, greyscale, and random tone curves.

Source:
    Jitter, blur and grey are the warm-up recipe of the public EcoTTA code: jitter (0.4, 0.4, 0.4, 0.1) with
    probability 0.4, Gaussian blur 3x3 with sigma 0.1 to 2 with probability 0.2, greyscale with probability 0.1. The
    four jitters are applied in one fixed order (brightness, contrast, saturation, hue), not in a random one; the hue
    turns in the YIQ plane. Tone curves: Modas et al. 2022, PRIME, arXiv 2112.13547, section 3.1 (colour).
"""

import math

import torch
from torch import Tensor

from ecotta_rt.prepare.augment.draws import Draws

__all__ = ["blur", "curves", "grey", "jitter", "where"]

BRIGHTNESS, CONTRAST, SATURATION, HUE = 0.4, 0.4, 0.4, 0.1  # how far each jitter goes, up and down
_WAVES = 8  # sines that a tone curve is a sum of

# ITU-R BT.601 luma, and the two chroma axes of YIQ.
_LUMA = (0.299, 0.587, 0.114)
_RGB_TO_YIQ = torch.tensor([_LUMA, (0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112)])


def jitter(frames: Tensor, strength: float, draws: Draws) -> Tensor:
    """Another brightness, contrast, saturation and hue, with probability `strength`; grey frames know the first two."""

    def factor(reach: float) -> Tensor:
        return draws.uniform(1 - reach, 1 + reach, (1, 1, 1))

    jittered = (frames * factor(BRIGHTNESS)).clamp(0, 1)
    jittered = _mix(jittered, _luma(jittered).mean((2, 3), keepdim=True), factor(CONTRAST))
    if frames.shape[1] == 3:
        jittered = _mix(jittered, _luma(jittered), factor(SATURATION))
        jittered = _turned(jittered, draws.uniform(-HUE, HUE) * 2 * math.pi)
    return where(draws.chosen(strength), jittered, frames)


def blur(frames: Tensor, strength: float, draws: Draws) -> Tensor:
    """A Gaussian blur of 3x3 pixels, sigma 0.1 to 2, with probability `strength`."""
    sigma = draws.uniform(0.1, 2.0, (1, 1, 1))
    side = torch.exp(-0.5 / sigma.square())  # weight of the two neighbours relative to the centre
    total = 1 + 2 * side
    padded = torch.nn.functional.pad(frames, (1, 1, 1, 1), mode="reflect")
    rows = (padded[:, :, :-2] * side + padded[:, :, 1:-1] + padded[:, :, 2:] * side) / total
    blurred = (rows[..., :-2] * side + rows[..., 1:-1] + rows[..., 2:] * side) / total
    return where(draws.chosen(strength), blurred, frames)


def grey(frames: Tensor, strength: float, draws: Draws) -> Tensor:
    """No colours, with probability `strength`."""
    return where(draws.chosen(strength), _luma(frames).expand_as(frames), frames)


def curves(frames: Tensor, strength: float, draws: Draws) -> Tensor:
    """A smooth random tone curve a channel: the value plus sines of it, together at most `strength` high or so."""
    channels = frames.shape[1]
    amplitude = draws.normal((channels, _WAVES)) * draws.uniform(0, strength, (1, 1)) / math.sqrt(_WAVES)
    moved = frames.clone()
    for wave in range(_WAVES):
        moved += amplitude[:, :, wave, None, None] * torch.sin(math.pi * (wave + 1) * frames)
    return moved.clamp(0, 1)


def where(chosen: Tensor, then: Tensor, otherwise: Tensor) -> Tensor:
    """The frames of `then` where `chosen`, bool `[N]`, and of `otherwise` elsewhere."""
    return torch.where(chosen.view(-1, 1, 1, 1), then, otherwise)


def _turned(frames: Tensor, turn: Tensor) -> Tensor:
    y, i, q = torch.einsum("dc,nchw->dnhw", _RGB_TO_YIQ, frames)
    cos, sin = turn.cos().view(-1, 1, 1), turn.sin().view(-1, 1, 1)
    turned = torch.stack([y, i * cos - q * sin, i * sin + q * cos])
    return torch.einsum("cd,dnhw->nchw", torch.linalg.inv(_RGB_TO_YIQ), turned).clamp(0, 1)


def _luma(frames: Tensor) -> Tensor:
    if frames.shape[1] == 1:
        return frames
    return (frames * torch.tensor(_LUMA).view(1, 3, 1, 1)).sum(1, keepdim=True)


def _mix(frames: Tensor, other: Tensor, share: Tensor) -> Tensor:
    return (share * frames + (1 - share) * other).clamp(0, 1)
