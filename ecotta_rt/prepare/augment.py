"""Augmentation of the warm-up, on a whole batch at once: colour jitter, blur, greyscale; each drawn per frame.

Source:
    The warm-up recipe of the public EcoTTA code: jitter (0.4, 0.4, 0.4, 0.1) with probability 0.4, Gaussian blur 3x3
    with sigma 0.1 to 2 with probability 0.2, greyscale with probability 0.1. The four jitters are applied in one fixed
    order (brightness, contrast, saturation, hue), not in a random one; the hue turns in the YIQ plane.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ecotta_rt.errors import UsageError

__all__ = ["Augmentation", "augment"]

# ITU-R BT.601 luma, and the two chroma axes of YIQ.
_LUMA = (0.299, 0.587, 0.114)
_RGB_TO_YIQ = torch.tensor([_LUMA, (0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112)])


@dataclass(frozen=True)
class Augmentation:
    """Probabilities in [0, 1], and how far each jitter goes."""

    jitter: float = 0.4
    blur: float = 0.2
    grey: float = 0.1
    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.4
    hue: float = 0.1

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not 0.0 <= value <= 1.0:
                raise UsageError(f"augmentation {name}={value}: must lie between 0 and 1")


def augment(frames: Tensor, how: Augmentation, generator: torch.Generator) -> Tensor:
    """Augment float32 `[N, C, H, W]` in [0, 1], RGB or grey; returns the same shape and range.

    Of the jitters grey frames know brightness and contrast alone.
    """
    count = len(frames)

    def drawn(probability: float) -> Tensor:
        return torch.rand(count, generator=generator) < probability

    def uniform(low: float, high: float) -> Tensor:
        return torch.empty(count, 1, 1, 1).uniform_(low, high, generator=generator)

    jittered = _jitter(
        frames,
        uniform(1 - how.brightness, 1 + how.brightness),
        uniform(1 - how.contrast, 1 + how.contrast),
        uniform(1 - how.saturation, 1 + how.saturation),
        uniform(-how.hue, how.hue) * 2 * math.pi,
    )
    frames = _where(drawn(how.jitter), jittered, frames)
    frames = _where(drawn(how.blur), _blur(frames, uniform(0.1, 2.0)), frames)
    return _where(drawn(how.grey), _luma(frames).expand_as(frames), frames)


def _jitter(frames: Tensor, brightness: Tensor, contrast: Tensor, saturation: Tensor, turn: Tensor) -> Tensor:
    frames = (frames * brightness).clamp(0, 1)
    frames = _mix(frames, _luma(frames).mean((2, 3), keepdim=True), contrast)
    if frames.shape[1] == 1:
        return frames
    frames = _mix(frames, _luma(frames), saturation)
    y, i, q = torch.einsum("dc,nchw->dnhw", _RGB_TO_YIQ, frames)
    cos, sin = turn.cos()[:, 0], turn.sin()[:, 0]
    turned = torch.stack([y, i * cos - q * sin, i * sin + q * cos])
    return torch.einsum("cd,dnhw->nchw", torch.linalg.inv(_RGB_TO_YIQ), turned).clamp(0, 1)


def _blur(frames: Tensor, sigma: Tensor) -> Tensor:
    side = torch.exp(-0.5 / sigma.square())  # weight of the two neighbours relative to the centre
    total = 1 + 2 * side
    padded = torch.nn.functional.pad(frames, (1, 1, 1, 1), mode="reflect")
    rows = (padded[:, :, :-2] * side + padded[:, :, 1:-1] + padded[:, :, 2:] * side) / total
    return (rows[..., :-2] * side + rows[..., 1:-1] + rows[..., 2:] * side) / total


def _luma(frames: Tensor) -> Tensor:
    if frames.shape[1] == 1:
        return frames
    weights = torch.tensor(_LUMA).view(1, 3, 1, 1)
    return (frames * weights).sum(1, keepdim=True)


def _mix(frames: Tensor, other: Tensor, share: Tensor) -> Tensor:
    return (share * frames + (1 - share) * other).clamp(0, 1)


def _where(chosen: Tensor, then: Tensor, otherwise: Tensor) -> Tensor:
    return torch.where(chosen.view(-1, 1, 1, 1), then, otherwise)
