"""Ice-crystal textures for the corruption frost, generated.

CIFAR-10-C blends in five photographs of frost that are not ours to ship. In their place stand five generated textures:
needles of ice, grain, and clouds of two sizes, with the tones and tints of the photographs. The tables below were
measured on frames in the official format (frost at severity 3 to 5 minus the clean frames), so mean, deviation and
neighbour correlation of a frame under frost are close to the official ones; its crystals are not those of the
photographs.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

__all__ = ["TEXTURE_SIDE", "frost_textures"]

Floats = NDArray[np.float64]

TEXTURE_SIDE = 192  # pixels, at least: room for many pieces that hardly overlap
SEED = 2019  # of the textures alone: they are the same for every stream
NEEDLES_PER_PIXEL = 0.04
LONGEST_NEEDLE = 10  # pixels
CLOUD_SIGMAS = (3, 16)  # pixels, of the small and the large ones
TONE_SHARES = (0.0, 0.005, 0.05, 0.25, 0.5, 0.75, 0.95, 0.995, 1.0)


@dataclass(frozen=True)
class _Ice:
    """How one texture looks.

    Attributes:
        tones: Luminance (0 to 255) below which the shares `TONE_SHARES` of its pixels lie.
        dark_tint, bright_tint: What R, G and B differ from the luminance at the darkest and the brightest tone.
        shares: Of the variance: grain, needles, small clouds, large clouds.
        mottling: Deviation of a cloudy change of the tint between red and blue.
    """

    tones: tuple[float, ...]
    dark_tint: tuple[float, float, float]
    bright_tint: tuple[float, float, float]
    shares: tuple[float, float, float, float]
    mottling: float = 2


ICES = (
    _Ice((25, 41, 57, 83, 106, 134, 172, 218, 250), (-12, 0, 12), (-9, 0, 9), (0.30, 0.34, 0.16, 0.20)),
    _Ice(
        (80, 92, 102, 115, 127, 140, 159, 180, 210), (-66, 23, 43), (-25, 9, 16), (0.30, 0.05, 0.35, 0.30), mottling=9
    ),
    _Ice((55, 73, 107, 138, 154, 169, 196, 238, 252), (-14, 2, 12), (-15, 0, 15), (0.50, 0.14, 0.16, 0.20), mottling=3),
    _Ice((80, 108, 137, 169, 194, 209, 227, 240, 250), (-6, -1, 7), (-7, -2, 9), (0.34, 0.18, 0.14, 0.34)),
    _Ice((100, 134, 165, 195, 208, 218, 231, 240, 250), (-5, -2, 7), (-7, -1, 8), (0.34, 0.20, 0.16, 0.30)),
)


@cache
def frost_textures(frame_side: int) -> Floats:
    """The five textures, values 0 to 255.

    Args:
        frame_side: Of the frames that pieces are cut for, pixels.

    Returns:
        float64 `[5, S, S, 3]` with S at least `TEXTURE_SIDE` and twice the frame's side; read-only.
    """
    side = max(TEXTURE_SIDE, 2 * frame_side)
    textures = np.stack([_texture(ice, side, np.random.default_rng((SEED, number))) for number, ice in enumerate(ICES)])
    textures.flags.writeable = False
    return textures


def _texture(ice: _Ice, side: int, generator: np.random.Generator) -> Floats:
    layers = [generator.normal(size=(side, side)), _needles(side, generator)]
    layers += [gaussian_filter(generator.normal(size=(side, side)), sigma, mode="wrap") for sigma in CLOUD_SIGMAS]
    relief = sum(np.sqrt(share) * _standard(layer) for share, layer in zip(ice.shares, layers, strict=True))
    rank = np.argsort(np.argsort(relief, axis=None)).reshape(side, side) / (side * side - 1)
    tone = np.interp(rank, TONE_SHARES, ice.tones)[..., None]
    brightness = (tone - ice.tones[0]) / (ice.tones[-1] - ice.tones[0])
    tint = np.array(ice.dark_tint) * (1 - brightness) + np.array(ice.bright_tint) * brightness
    mottle = _standard(gaussian_filter(generator.normal(size=(side, side)), CLOUD_SIGMAS[1] / 2, mode="wrap"))
    colour: Floats = tone + tint + ice.mottling * mottle[..., None] * np.array([1.0, 0.0, -0.7])
    return np.clip(colour, 0, 255)


def _needles(side: int, generator: np.random.Generator) -> Floats:
    """Straight bright and dark lines in all directions, each fading towards its tip; the texture wraps around."""
    count = int(NEEDLES_PER_PIXEL * side * side)
    start, direction = generator.uniform(0, side, (2, count, 1)), generator.uniform(0, 2 * np.pi, (count, 1))
    length, height = generator.uniform(2, LONGEST_NEEDLE, (count, 1)), generator.normal(size=(count, 1))
    along = np.arange(0, LONGEST_NEEDLE, 0.5)
    rows = np.floor(start[0] + along * np.sin(direction)).astype(int) % side
    columns = np.floor(start[1] + along * np.cos(direction)).astype(int) % side
    field = np.zeros((side, side))
    np.add.at(field, (rows, columns), height * np.clip(1 - along / length, 0, None))
    smooth: Floats = gaussian_filter(field, 0.4, mode="wrap")
    return smooth


def _standard(layer: Floats) -> Floats:
    centred: Floats = layer - layer.mean()
    centred /= centred.std()
    return centred
