"""The random augmentation under which CoTTA's teacher looks at a batch 32 times.

Colour jitter with gamma, affine, blur, flip, noise, with the ranges of the authors' CIFAR configuration
(`get_tta_transforms` of github.com/qinenergy/cotta, after KATANA, arXiv 2109.08191). As there, one draw serves the
whole batch. Written on tensors [N, 3, H, W], since the authors' torchvision and PIL are no dependencies of ours.

Where they pad by half a frame, turn, blur and cut the middle out, we sample the middle plus the blur's margin straight
away: with the edge repeated outside the frame both give the same picture, at a quarter of the pixels.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["Draw", "affine_and_blur", "augment", "draw", "jitter_colours", "rotate_hue"]

_BLUR_MARGIN = 2  # a 5x5 kernel
_LUMA = (0.2989, 0.587, 0.114)  # ITU-R BT.601, as torchvision's greyscale


@dataclass(frozen=True)
class Draw:
    """One set of random values; the defaults change nothing.

    Attributes:
        brightness, contrast, saturation, gamma: Factors, 1 is neutral.
        hue_turns: Shift on the colour circle, -0.5 to 0.5.
        colour_order: The five colour changes by position: brightness, contrast, saturation, hue, gamma.
        angle_degrees: Rotation about the centre.
        scale: Zoom about the centre.
        shift: To the right and down, in pixels.
        blur_sigma: Of the 5x5 Gaussian, in pixels.
        flip: Left to right.
    """

    brightness: float = 1.0
    contrast: float = 1.0
    saturation: float = 1.0
    hue_turns: float = 0.0
    gamma: float = 1.0
    colour_order: tuple[int, ...] = (0, 1, 2, 3, 4)
    angle_degrees: float = 0.0
    scale: float = 1.0
    shift: tuple[int, int] = (0, 0)
    blur_sigma: float = 0.001
    flip: bool = False


def draw(generator: torch.Generator, height: int = 32, width: int = 32) -> Draw:
    """Draw one set of values; a shift reaches an eighth of the frame (1/16 of the authors' padded one)."""

    def uniform(low: float, high: float) -> float:
        return low + (high - low) * float(torch.rand((), generator=generator))

    return Draw(
        brightness=uniform(0.6, 1.4),
        contrast=uniform(0.7, 1.3),
        saturation=uniform(0.5, 1.5),
        hue_turns=uniform(-0.06, 0.06),
        gamma=uniform(0.7, 1.3),
        colour_order=tuple(torch.randperm(5, generator=generator).tolist()),
        angle_degrees=uniform(-15, 15),
        scale=uniform(0.9, 1.1),
        shift=(round(uniform(-width / 8, width / 8)), round(uniform(-height / 8, height / 8))),
        blur_sigma=uniform(0.001, 0.5),
        flip=uniform(0, 1) < 0.5,
    )


def augment(frames: Tensor, generator: torch.Generator, noise_std: float = 0.005, blur: bool = True) -> Tensor:
    """Augment a batch with one draw; only the noise differs from frame to frame.

    Args:
        frames: float32 `[N, 3, H, W]`.
        generator: Of random numbers, on the CPU.
        noise_std: Of the Gaussian noise added last.
        blur: Whether to blur as drawn.

    Returns:
        float32 `[N, 3, H, W]` in [0, 1].
    """
    values = draw(generator, frames.shape[2], frames.shape[3])
    if not blur:
        values = replace(values, blur_sigma=Draw.blur_sigma)
    out = affine_and_blur(jitter_colours(frames.clamp(0, 1), values), values)
    if values.flip:
        out = out.flip(3)
    noise = torch.randn(out.shape, generator=generator).to(out.device)
    return (out + noise_std * noise).clamp(0, 1)


def jitter_colours(frames: Tensor, values: Draw) -> Tensor:
    """Brightness, contrast, saturation, hue and gamma in the drawn order, each clamped to [0, 1]."""
    changes: tuple[Callable[[Tensor], Tensor], ...] = (
        lambda x: x * values.brightness,
        lambda x: torch.lerp(_grey(x).mean((2, 3), keepdim=True), x, values.contrast),
        lambda x: torch.lerp(_grey(x), x, values.saturation),
        lambda x: rotate_hue(x, values.hue_turns),
        lambda x: x**values.gamma,
    )
    for position in values.colour_order:
        frames = changes[position](frames).clamp(0, 1)
    return frames


def rotate_hue(frames: Tensor, turns: float) -> Tensor:
    """Turn every colour on the hue circle, saturation and value kept (HSV, Smith 1978).

    Args:
        frames: `[N, 3, H, W]` in [0, 1].
        turns: 1 is the whole circle.
    """
    value, strongest = frames.max(1)
    chroma = value - frames.min(1).values
    # A grey pixel has no hue: any will do, since its chroma of 0 gives grey back.
    safe = torch.where(chroma == 0, torch.ones_like(chroma), chroma)
    red, green, blue = frames.unbind(1)
    sixths = torch.stack([(green - blue) / safe, (blue - red) / safe + 2, (red - green) / safe + 4])  # [3, N, H, W]
    hue = sixths.gather(0, strongest[None])[0] + 6 * turns
    # Each channel is value minus chroma times a trapezoid of the hue; red's is the one below, green and blue lag.
    offsets = torch.tensor([5.0, 3.0, 1.0], device=frames.device).view(1, 3, 1, 1)
    position = (offsets + hue[:, None]) % 6
    return value[:, None] - chroma[:, None] * torch.minimum(position, 4 - position).clamp(0, 1)


def affine_and_blur(frames: Tensor, values: Draw) -> Tensor:
    """Rotate, zoom and shift about the centre (bilinear, the edge repeated outside), then blur."""
    height, width = frames.shape[2:]
    rows = torch.arange(-_BLUR_MARGIN, height + _BLUR_MARGIN, device=frames.device) - (height - 1) / 2
    columns = torch.arange(-_BLUR_MARGIN, width + _BLUR_MARGIN, device=frames.device) - (width - 1) / 2
    # Pixels from the centre, in the result.
    y, x = torch.meshgrid(rows - values.shift[1], columns - values.shift[0], indexing="ij")
    cosine = math.cos(math.radians(values.angle_degrees)) / values.scale
    sine = math.sin(math.radians(values.angle_degrees)) / values.scale
    source_x, source_y = cosine * x + sine * y, cosine * y - sine * x
    # grid_sample counts half a frame as 1 from the centre when the corners are not aligned.
    grid = torch.stack([2 * source_x / width, 2 * source_y / height], dim=-1)
    moved = F.grid_sample(frames, grid.expand(len(frames), -1, -1, -1), padding_mode="border", align_corners=False)
    return _blur(moved, values.blur_sigma)


def _blur(frames: Tensor, sigma: float) -> Tensor:
    """Separable 5x5 Gaussian without padding: the margin is used up."""
    offsets = torch.arange(-_BLUR_MARGIN, _BLUR_MARGIN + 1, device=frames.device)
    kernel = torch.softmax(-0.5 * (offsets / sigma).square(), 0)
    channels = frames.shape[1]
    vertical, horizontal = kernel.view(1, 1, -1, 1), kernel.view(1, 1, 1, -1)
    frames = F.conv2d(frames, vertical.expand(channels, -1, -1, -1), groups=channels)
    return F.conv2d(frames, horizontal.expand(channels, -1, -1, -1), groups=channels)


def _grey(frames: Tensor) -> Tensor:
    """`[N, 1, H, W]`."""
    weights = torch.tensor(_LUMA, device=frames.device).view(1, 3, 1, 1)
    return (frames * weights).sum(1, keepdim=True)
