"""Random numbers that belong to an image, not to a batch.

Every image has a random stream of its own, seeded by (seed, corruption, severity, index of the image in its set). So a
frame comes out the same whether it is corrupted alone, in another order or beside other frames.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["Draws"]

Floats = NDArray[np.float64]


class Draws:
    """One random generator an image; each method draws the same shape from every one and stacks the results.

    Args:
        key: What all the images share: seed, number of the corruption, severity.
        indices: int `[N]`, the place of each image in its set.
    """

    def __init__(self, key: Sequence[int], indices: NDArray[np.int64]) -> None:
        self._generators = [np.random.default_rng([*key, int(index)]) for index in indices]

    def normal(self, shape: tuple[int, ...], mean: float = 0.0, std: float = 1.0) -> Floats:
        """Normal numbers, float64 `[N, *shape]`."""
        standard = np.empty((len(self._generators), *shape))
        for row, generator in zip(standard.reshape(len(standard), -1), self._generators, strict=True):
            generator.standard_normal(out=row)
        standard *= std
        standard += mean
        return standard

    def uniform(self, shape: tuple[int, ...], low: float = 0.0, high: float = 1.0) -> Floats:
        """Uniform numbers from low (included) to high (not), float64 `[N, *shape]`."""
        unit = np.empty((len(self._generators), *shape))
        for row, generator in zip(unit.reshape(len(unit), -1), self._generators, strict=True):
            generator.random(out=row)
        unit *= high - low
        unit += low
        return unit

    def integers(self, shape: tuple[int, ...], low: int, high: int) -> NDArray[np.int64]:
        """Integers from low (included) to high (not), int64 `[N, *shape]`."""
        return self._stack(lambda generator, _: generator.integers(low, high, shape))

    def poisson(self, rates: Floats) -> NDArray[np.int64]:
        """Poisson counts, one for each of the rates `[N, ...]`."""
        return self._stack(lambda generator, image: generator.poisson(rates[image]))

    def _stack(self, draw: Callable[[np.random.Generator, int], NDArray[np.int64]]) -> NDArray[np.int64]:
        return np.stack([draw(generator, image) for image, generator in enumerate(self._generators)])
