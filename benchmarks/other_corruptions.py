"""Six corruptions that are not among the 15 of the test, to choose by: a recipe that is chosen by the test knows it.

Speckle noise, Gaussian blur, spatter and saturate are the four that the authors of CIFAR-10-C keep for validation, at
about their severity 5; brown noise and checkers are of CIFAR-10-C-bar, which is made to be unlike the 15.

Source:
    Hendrycks, Dietterich 2019, Benchmarking Neural Network Robustness, arXiv 1903.12261, appendix B.
    Mintun et al. 2021, On Interaction Between Augmentations and Corruptions, arXiv 2102.11273, appendix (C-bar).
"""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

__all__ = ["OTHER_CORRUPTIONS", "corrupt_otherwise"]

Unit = NDArray[np.float64]  # [N, H, W, 3] in [0, 1]
MUD, WATER = np.array([63, 42, 20]) / 255, np.array([175, 238, 238]) / 255


def corrupt_otherwise(frames: NDArray[np.uint8], name: str, seed: int) -> NDArray[np.uint8]:
    """Corrupt uint8 `[N, H, W, 3]` by one of `OTHER_CORRUPTIONS`; all randomness comes from `seed` and the name."""
    generator = np.random.default_rng((seed, list(OTHER_CORRUPTIONS).index(name)))
    changed = OTHER_CORRUPTIONS[name](frames / 255.0, generator)
    return np.round(changed.clip(0, 1) * 255).astype(np.uint8)


def _speckle_noise(x: Unit, generator: np.random.Generator) -> Unit:
    return x + x * generator.normal(size=x.shape) * 0.2


def _gaussian_blur(x: Unit, generator: np.random.Generator) -> Unit:
    blurred: Unit = gaussian_filter(x, (0, 1, 1, 0))
    return blurred


def _spatter(x: Unit, generator: np.random.Generator) -> Unit:
    drops = gaussian_filter(generator.normal(0.65, 0.3, x.shape[:3]), (0, 1, 1))
    cover = ((drops - 0.69) * 8).clip(0, 1)[..., None]
    colour = np.where(generator.random((len(x), 1, 1, 1)) < 0.5, MUD, WATER)
    covered: Unit = x * (1 - cover) + colour * cover
    return covered


def _saturate(x: Unit, generator: np.random.Generator) -> Unit:
    grey = (x * np.array([0.299, 0.587, 0.114])).sum(-1, keepdims=True)
    saturated: Unit = grey + (x - grey) * 3 + 0.05
    return saturated


def _brown_noise(x: Unit, generator: np.random.Generator) -> Unit:
    rows, columns = x.shape[1:3]
    cycles = np.hypot(np.fft.fftfreq(rows)[:, None], np.fft.fftfreq(columns)[None])
    cycles[0, 0] = 1
    white = np.fft.fft2(generator.normal(size=(len(x), 3, rows, columns)))
    noise = np.fft.ifft2(white / cycles).real
    noise /= noise.std((2, 3), keepdims=True)
    added: Unit = x + 0.12 * noise.transpose(0, 2, 3, 1)
    return added


def _checkers(x: Unit, generator: np.random.Generator) -> Unit:
    out = x.copy()
    places = np.arange(max(x.shape[1:3]))
    for frame in out:
        side, (top, left) = generator.integers(3, 6), generator.integers(0, 8, 2)
        y, x_ = (places[: frame.shape[0]] + top) // side, (places[: frame.shape[1]] + left) // side
        kept = generator.random((y[-1] + 1, x_[-1] + 1)) < 0.5
        frame[((y[:, None] + x_) % 2 == 0) & kept[y][:, x_]] = 0.5
    return out


OTHER_CORRUPTIONS: Mapping[str, Callable[[Unit, np.random.Generator], Unit]] = {
    "speckle_noise": _speckle_noise,
    "gaussian_blur": _gaussian_blur,
    "spatter": _spatter,
    "saturate": _saturate,
    "brown_noise": _brown_noise,
    "checkers": _checkers,
}
