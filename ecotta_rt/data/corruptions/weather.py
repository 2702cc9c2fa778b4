"""The four weathers: snow, frost, fog and brightness. Constants of CIFAR-10-C, severities 1 to 5.

Source:
    Hendrycks, Dietterich 2019 and the authors' `make_cifar_c.py`.
"""

import numpy as np

from ecotta_rt.data.corruptions.draws import Draws
from ecotta_rt.data.corruptions.frost_texture import frost_textures
from ecotta_rt.data.corruptions.pixels import Floats, Frames, motion_blurred, to_bytes, to_unit, zoomed

__all__ = ["brightness", "fog", "frost", "snow"]

# Mean and deviation of the flakes' field, its zoom, the threshold below which there is no flake, radius and sigma of
# their trail in pixels, and how much of the frame's own contrast is left.
SNOW = (
    (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
    (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
    (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
    (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
    (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
)
SNOW_ANGLES = (-135, -45)  # degrees: from above
LUMA = (0.299, 0.587, 0.114)  # of R, G and B, ITU-R BT.601
FROST = ((1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45))  # shares of the frame and of the texture
FOG = ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75))  # density, and how fast the detail of the clouds fades
BRIGHTNESS = (0.05, 0.1, 0.15, 0.2, 0.3)  # added to the value of HSV


def snow(frames: Frames, severity: int, draws: Draws) -> Frames:
    """Flakes with a trail, twice (the second time upside down), over a whitened frame."""
    mean, std, factor, threshold, radius, sigma, own = SNOW[severity - 1]
    flakes = zoomed(draws.normal(frames.shape[1:3], mean, std), factor)
    flakes[flakes < threshold] = 0
    angles = draws.uniform((), *SNOW_ANGLES)
    layer = to_unit(motion_blurred(to_bytes(flakes), angles, int(radius), sigma))[..., None]
    unit = to_unit(frames)
    whitened = np.maximum(unit, (unit @ np.array(LUMA))[..., None] * 1.5 + 0.5)
    return to_bytes(own * unit + (1 - own) * whitened + layer + np.rot90(layer, 2, axes=(1, 2)))


def frost(frames: Frames, severity: int, draws: Draws) -> Frames:
    """Ice crystals on the lens: a random piece of one of five textures, blended in. The textures are generated."""
    own, ice = FROST[severity - 1]
    side = frames.shape[1]
    textures = frost_textures(side)
    which = draws.integers((), 0, len(textures))
    rows, columns = draws.integers((2,), 0, textures.shape[1] - side).T
    pieces = np.stack([textures[k, r : r + side, c : c + side] for k, r, c in zip(which, rows, columns, strict=True)])
    return np.clip(own * frames + ice * pieces, 0, 255).astype(np.uint8)


def fog(frames: Frames, severity: int, draws: Draws) -> Frames:
    """Clouds (a plasma fractal) added to the frame, which keeps its range."""
    density, decay = FOG[severity - 1]
    side = frames.shape[1]
    unit = to_unit(frames)
    brightest = unit.max(axis=(1, 2, 3), keepdims=True)
    clouds = _plasma(draws, len(frames), 1 << (side - 1).bit_length(), decay)[:, :side, :side, None]
    return to_bytes((unit + density * clouds) * brightest / (brightest + density))


def _plasma(draws: Draws, count: int, side: int, decay: float) -> Floats:
    """Plasma fractals by the diamond-square algorithm on a torus, scaled to 0..1; float64 `[count, side, side]`."""
    heights = np.zeros((count, side, side))
    step, wibble = side, 100.0

    def middles(sums: Floats) -> Floats:
        return sums / 4 + wibble * draws.uniform(sums.shape[1:], -wibble, wibble)

    while step >= 2:
        half = step // 2
        corners = heights[:, ::step, ::step]
        pairs = corners + np.roll(corners, -1, axis=1)
        heights[:, half::step, half::step] = middles(pairs + np.roll(pairs, -1, axis=2))
        centres = heights[:, half::step, half::step]
        across, along = corners + np.roll(corners, -1, axis=2), corners + np.roll(corners, -1, axis=1)
        heights[:, ::step, half::step] = middles(centres + np.roll(centres, 1, axis=1) + across)
        heights[:, half::step, ::step] = middles(centres + np.roll(centres, 1, axis=2) + along)
        step, wibble = half, wibble / decay
    heights -= heights.min(axis=(1, 2), keepdims=True)
    heights /= heights.max(axis=(1, 2), keepdims=True)
    return heights


def brightness(frames: Frames, severity: int, draws: Draws) -> Frames:
    """More value in HSV at the same hue and saturation: all channels times one factor. Nothing random."""
    unit = to_unit(frames)
    value = unit.max(axis=3, keepdims=True)
    brighter = np.minimum(value + BRIGHTNESS[severity - 1], 1)
    black = value == 0  # has no hue to keep, and becomes grey
    return to_bytes(np.where(black, brighter, unit * (brighter / np.where(black, 1, value))))
