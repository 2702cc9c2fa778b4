"""The four blurs: defocus, frosted glass, motion and zoom. Constants of CIFAR-10-C, severities 1 to 5.

Source:
    Hendrycks, Dietterich 2019 and the authors' `make_cifar_c.py`.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from ecotta_rt.data.corruptions.draws import Draws
from ecotta_rt.data.corruptions.pixels import Floats, Frames, motion_blurred, to_bytes, to_unit, zoomed

__all__ = ["defocus_blur", "glass_blur", "motion_blur", "zoom_blur"]

DEFOCUS = (
    (0.3, 0.4),
    (0.4, 0.5),
    (0.5, 0.6),
    (1, 0.2),
    (1.5, 0.1),
)  # radius of the disk, sigma of its soft edge; pixels
GLASS = ((0.05, 1), (0.25, 1), (0.4, 1), (0.25, 2), (0.4, 2))  # sigma of the blur in pixels, how often pixels move
GLASS_REACH = 1  # pixels; the same at every severity
MOTION = ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5))  # radius and sigma of the kernel, pixels
MOTION_ANGLES = (-45, 45)  # degrees
ZOOM_LARGEST = (1.06, 1.11, 1.16, 1.21, 1.26)  # not reached; the factors are 1, 1.01, 1.02 and so on
ZOOM_STEP = 0.01


def defocus_blur(frames: Frames, severity: int, draws: Draws) -> Frames:
    """A lens out of focus: every point becomes a disk. Nothing random."""
    kernel = _disk(*DEFOCUS[severity - 1])
    reach = len(kernel) // 2
    unit = np.pad(to_unit(frames), ((0, 0), (reach, reach), (reach, reach), (0, 0)), mode="reflect")
    height, width = frames.shape[1:3]
    blurred = np.zeros(frames.shape)
    for row, column in np.argwhere(kernel):
        blurred += kernel[row, column] * unit[:, row : row + height, column : column + width]
    return to_bytes(blurred)


def _disk(radius: float, edge_sigma: float) -> Floats:
    """A disk of whole pixels, smoothed by a 3x3 Gaussian; its sum is 1.

    In float32, as the authors' kernels are: a sum that lies on a whole byte is cut off to this or that side of it
    depending on the last bit of the kernel.
    """
    reach = int(radius) + 1
    line = np.arange(-reach, reach + 1)
    disk = (line[:, None] ** 2 + line**2 <= radius**2).astype(np.float32)
    edge = np.exp(-(np.arange(-1, 2) ** 2) / (2 * edge_sigma**2))
    edge = (edge / edge.sum()).astype(np.float32)
    padded = np.pad(disk / disk.sum(), 1)
    side = len(disk)
    soft = np.zeros_like(disk)
    for row, column in np.ndindex(3, 3):
        soft += edge[row] * edge[column] * padded[row : row + side, column : column + side]
    return soft.astype(float)


def glass_blur(frames: Frames, severity: int, draws: Draws) -> Frames:
    """Frosted glass: a slight blur, pixels moved to a neighbour's place, and the blur again."""
    sigma, rounds = GLASS[severity - 1]
    scattered = to_bytes(_gaussian(to_unit(frames), sigma))
    for _ in range(rounds):
        scattered = _scattered(scattered, draws)
    return to_bytes(_gaussian(to_unit(scattered), sigma))


def _scattered(frames: Frames, draws: Draws) -> Frames:
    """Every pixel but those of the first rows and columns takes the value of a random neighbour above or to the left.

    The authors mean to swap two pixels, but the swap is written on views of one array, so the second half of it copies
    back what the first has just written. With a reach of 1 no pixel is read after it was written, and the order does
    not matter.
    """
    side = frames.shape[1]
    places = np.arange(GLASS_REACH + 1, side)
    shifts = draws.integers((2, len(places), len(places)), -GLASS_REACH, GLASS_REACH)  # [N, 2, S, S], -1 or 0
    scattered = frames.copy()
    image = np.arange(len(frames))[:, None, None]
    scattered[:, places[0] :, places[0] :] = frames[image, places[:, None] + shifts[:, 0], places + shifts[:, 1]]
    return scattered


def _gaussian(unit: Floats, sigma: float) -> Floats:
    smooth: Floats = gaussian_filter(unit, (0, sigma, sigma, 0), mode="nearest")
    return smooth


def motion_blur(frames: Frames, severity: int, draws: Draws) -> Frames:
    """A camera that moves: a trail in a random direction, up to 45 degrees from level."""
    radius, sigma = MOTION[severity - 1]
    return motion_blurred(frames, draws.uniform((), *MOTION_ANGLES), radius, sigma)


def zoom_blur(frames: Frames, severity: int, draws: Draws) -> Frames:
    """A camera that moves forward: the mean of the frame at growing zooms. Nothing random."""
    unit = to_unit(frames).astype(np.float32)
    factors: NDArray[np.float64] = np.arange(1, ZOOM_LARGEST[severity - 1], ZOOM_STEP)
    blurred = unit.copy()
    for factor in factors:
        blurred += zoomed(unit, float(factor))
    return to_bytes(blurred / (len(factors) + 1))
