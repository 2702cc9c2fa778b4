"""Move the statistics of norms towards those of the frames just seen: an exponential average of whole distributions.

With d = b - m:  v <- (1 - u)(v + u d^2) + u bv  and  m <- m + u d,  frame by frame; m, v: the statistics, b, bv: the
mean and biased variance of a frame, u: the momentum. The d^2 term is the spread *between* the two means; without it a
drifting stream looks calmer than it is.

`ecotta_rt.adapt.follower` has the same rule beside the de-classed one, with a gain that changes from frame to frame.
Here it is written as the definition has it, for the torch engine, which is the reference; tests hold the two equal.

Source:
    Exponentially weighted moments of a mixture (1 - u) * old + u * seen; Finch 2009, Incremental calculation of
    weighted mean and variance, section 9, for u at each sample.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

__all__ = ["Moving"]

Floats = NDArray[np.float32]

_MEAN, _VARIANCE = ".mean", ".variance"


class Moving:
    """The rule, for one network.

    Args:
        arrays: Names and lengths of what a vector of statistics holds, in order: `NORM.mean` and `NORM.variance`.
        momentum: u, in [0, 1]; 0 moves nothing.
        momenta: u of norms that have one of their own, by name.
    """

    def __init__(
        self,
        arrays: Sequence[tuple[str, int]],
        momentum: float,
        momenta: Mapping[str, float] = MappingProxyType({}),
    ) -> None:
        names = [name for name, count in arrays for _ in range(count)]
        self._means = np.array([place for place, name in enumerate(names) if name.endswith(_MEAN)], np.intp)
        self._variances = np.array([place for place, name in enumerate(names) if name.endswith(_VARIANCE)], np.intp)
        norms = [names[place].removesuffix(_MEAN) for place in self._means]
        self._u = np.array([momenta.get(norm, momentum) if momentum else 0.0 for norm in norms], np.float32)

    def __call__(self, statistics: Floats, seen: Floats, out: Floats) -> None:
        """Move, one frame after the other.

        Args:
            statistics: float32 `[S]`, as they are; a norm's means and variances lie in the same order.
            seen: float32 `[N, S]`, each frame's own.
            out: float32 `[S]`, what they become. Not finite where `seen` is not.
        """
        u = self._u
        mean, variance = statistics[self._means], statistics[self._variances]
        with np.errstate(invalid="ignore", over="ignore"):
            for frame in seen:
                distance = frame[self._means] - mean
                variance = (1 - u) * (variance + u * distance * distance) + u * frame[self._variances]
                mean = mean + u * distance
        out[self._means], out[self._variances] = mean, variance
