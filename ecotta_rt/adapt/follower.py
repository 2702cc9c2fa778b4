"""How the statistics of all norms follow a stream, one frame after the other, on flat vectors.

With b and s a frame's spatial mean and variance in a channel, T_m and T_v the statistics, d = b - T_m and u the gain:

    T_m <- T_m + u delta          T_v <- T_v + u r

    plain        delta = d                   r = s + (1 - u) d^2 - T_v
    de-classed   delta = d - sum_c w_c o_c   r = min((s + d^2) / sum_c w_c rho_c - T_v, 19 T_v)

with w the filtered probabilities, o and rho the class tables. After either, the leak k pulls to the source:
T_m <- T_m + k (m0 - T_m), and T_v alike.

The plain rule is T_v <- (1 - u)(T_v + u d^2) + u s: with the spread *between* the two means, without which a drifting
stream looks calmer than it is. Norms that see classes are held, and not among these. `ecotta_rt.adapt.moving` has the
plain rule a second time, for the torch engine.

Source:
    plain: exponentially weighted moments of a mixture; Finch 2009, Incremental calculation of weighted mean and
    variance, section 9, for u at each sample.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ecotta_rt.adapt.channels import Channels, Moments
from ecotta_rt.adapt.class_tables import ClassTables
from ecotta_rt.adapt.places import Key
from ecotta_rt.errors import UsageError
from ecotta_rt.options import AdaptationOptions

__all__ = ["Followed", "StatisticsFollower"]

Floats = NDArray[np.float32]

_MOST_GROWTH = np.float32(19)
_EPSILON = np.float32(1e-5)  # that of the norms: a channel without any variance can come to life


@dataclass(frozen=True, eq=False)
class Followed:
    """The statistics of a network that follow its frames.

    Attributes:
        channels: Where means and variances are in a vector of statistics.
        source: float32 `[S]`, the statistics at the source: to begin with, and what the leak pulls to.
        momentum: float32 `[C]`, u of each channel where nothing has changed, in [0, 1].
        tables: For the rule `de-classed`.
        key: Tells places apart; None: changes of place are not noticed.
    """

    channels: Channels
    source: Floats
    momentum: Floats
    tables: ClassTables | None = None
    key: Key | None = None


class StatisticsFollower:
    """Moves the statistics of one stream by what one frame has seen; it remembers nothing itself.

    Args:
        followed: The network's.
        options: Rule and constants.

    Raises:
        UsageError: Statistics of another size, or no tables where the rule needs them.
    """

    def __init__(self, followed: Followed, options: AdaptationOptions) -> None:
        channels, tables = followed.channels.count, followed.tables
        if followed.source.shape != (2 * channels,) or followed.momentum.shape != (channels,):
            sizes = f"{list(followed.source.shape)} and momenta {list(followed.momentum.shape)}"
            raise UsageError(f"statistics {sizes} for {channels} channels")
        if options.statistics == "plain":
            tables = None
        elif tables is None:
            raise UsageError("statistics 'de-classed' needs class tables; prepare the bundle with them, or use 'plain'")
        self._tables, self._leak = tables, np.float32(options.leak)
        self._source = followed.channels.moments(followed.source)

    def moved(self, now: Moments, frame: Moments, weights: Floats, gain: Floats) -> Moments:
        """The statistics after one frame.

        Args:
            now: Those before it.
            frame: Its own.
            weights: float32 `[K]`, how much it is of each class.
            gain: float32 `[C]`, u of each channel for this frame, in [0, 1].
        """
        (means, variances), u = now, gain
        distance = frame.means - means
        step, growth = distance, frame.variances - variances + (1 - u) * distance * distance
        if self._tables is not None:
            step = distance - self._tables.offset(weights)
            growth = (frame.variances + distance * distance) / self._tables.spread(weights) - variances
            growth = np.minimum(growth, _MOST_GROWTH * (variances + _EPSILON))
        means, variances = means + u * step, variances + u * growth
        if self._leak:
            means = means + self._leak * (self._source.means - means)
            variances = variances + self._leak * (self._source.variances - variances)
        return Moments(means, variances)
