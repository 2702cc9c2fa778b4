"""Random filters and random waves: other textures and spectra, the same shapes."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ecotta_rt.prepare.augment.draws import Draws

__all__ = ["amplitude", "filters", "waves"]


def filters(frames: Tensor, strength: float, draws: Draws) -> Tensor:
    """A random convolution over all channels, 1x1 or 3x3, mixed in with a weight of up to `strength`.

    Its output is given the frame's own mean and deviation, so that frames stay in range.

    Source:
        Xu et al. 2021, Robust and Generalizable Visual Representation Learning via Random Convolutions,
        arXiv 2007.13003, section 3 (RandConv, mixing variant).
    """
    count, channels, height, width = frames.shape
    kernels = draws.normal((channels, channels, 3, 3))
    point = draws.chosen(0.5).view(-1, 1, 1, 1, 1)
    centre = torch.zeros(3, 3)
    centre[1, 1] = 1
    kernels = torch.where(point, kernels * centre, kernels)
    mean, deviation = frames.mean((1, 2, 3), keepdim=True), frames.std((1, 2, 3), keepdim=True)
    padded = F.pad(frames - mean, (1, 1, 1, 1), mode="reflect").reshape(1, count * channels, height + 2, width + 2)
    filtered = F.conv2d(padded, kernels.flatten(0, 1), groups=count).view_as(frames)
    filtered = filtered / filtered.std((1, 2, 3), keepdim=True).clamp_min(1e-3) * deviation + mean
    share = draws.uniform(0, strength, (1, 1, 1))
    return ((1 - share) * frames + share * filtered).clamp(0, 1)


def amplitude(frames: Tensor, strength: float, draws: Draws) -> Tensor:
    """The amplitudes of another frame's spectrum, mixed in with a weight of up to `strength`; phases stay.

    Source:
        Xu et al. 2021, A Fourier-based Framework for Domain Generalization, arXiv 2105.11120, equation 5.
    """
    spectrum = torch.fft.rfft2(frames)
    size = spectrum.abs()
    share = draws.uniform(0, strength, (1, 1, 1))
    mixed = torch.polar((1 - share) * size + share * size[draws.order()], spectrum.angle())
    back: Tensor = torch.fft.irfft2(mixed, s=frames.shape[2:])
    return back.clamp(0, 1)


def waves(frames: Tensor, strength: float, draws: Draws) -> Tensor:
    """One plane wave a channel added: any direction and length, its height exponential with mean `strength` / 10.

    Source:
        Vaish et al. 2024, Fourier-basis Functions to Bridge Augmentation Gap, arXiv 2403.01944, section 3.
    """
    _, channels, height, width = frames.shape
    cycles = draws.uniform(1, min(height, width) / 2, (channels, 1, 1))
    angle, phase = (draws.uniform(0, 2 * math.pi, (channels, 1, 1)) for _ in range(2))
    y, x = torch.arange(height).view(1, 1, -1, 1) / height, torch.arange(width) / width
    wave = torch.sin(2 * math.pi * cycles * (angle.cos() * x + angle.sin() * y) + phase)
    crest = draws.exponential((channels, 1, 1)) * strength / 10
    return (frames + crest * wave).clamp(0, 1)
