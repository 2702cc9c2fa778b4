"""How the statistics of all norms follow a stream, one frame after the other, on flat vectors.

With b and s a frame's spatial mean and variance in a channel, T_m and T_v the statistics, d = b - T_m:

    plain        T_m <- T_m + u d                  T_v <- (1 - u)(T_v + u d^2) + u s

    de-classed   delta = d - sum_c w_c o_c         r = min((s + d^2) / sum_c w_c rho_c - T_v, 19 T_v)
        deep     T_m <- T_m + g u delta + k (m0 - T_m)     T_v <- T_v + g u r + k (v0 - T_v)
        early    T_m <- T_m + u' delta                     T_v <- T_v + u' r

with w the filtered probabilities, o and rho the class tables, k the leak and g = 1 where the frame is certain enough,
else 0. Deep are the norms that see classes. u' is u, and up to `boost` times as much after a change of surroundings:
where the early channels' means stay on one side, so that e, the running mean of delta in units of what one frame's
mean fluctuates by, is far from 0.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ecotta_rt.adapt.channels import Channels
from ecotta_rt.adapt.class_tables import ClassTables
from ecotta_rt.errors import UsageError
from ecotta_rt.options import AdaptationOptions

__all__ = ["Followed", "StatisticsFollower"]

Floats = NDArray[np.float32]

_MOST_GROWTH = np.float32(19)
_EPSILON = np.float32(1e-5)  # that of the norms: a channel without any variance can come to life
_DRIFT_RATE = np.float32(0.1)
_CALM = 0.3
"""Mean square of e up to which nothing has changed; at twice that the boost is whole."""


@dataclass(frozen=True, eq=False)
class Followed:
    """The statistics of a network that follow its frames.

    Attributes:
        channels: Where means and variances are in a vector of statistics.
        source: float32 `[S]`, the statistics at the source: to begin with, and what the leak pulls to.
        deep: bool `[C]`, channels of the norms that see classes.
        tables: For the rule `de-classed`.
    """

    channels: Channels
    source: Floats
    deep: NDArray[np.bool_]
    tables: ClassTables | None = None


class StatisticsFollower:
    """Statistics of one stream, moved by what each of its frames has seen.

    Args:
        followed: The network's.
        options: Rule and constants.

    Attributes:
        now: float32 `[S]`, the present statistics: one array, moved in place.

    Raises:
        UsageError: Vectors of other sizes, or no tables where the rule needs them.
    """

    def __init__(self, followed: Followed, options: AdaptationOptions) -> None:
        channels, source, deep, tables = followed.channels, followed.source, followed.deep, followed.tables
        if source.shape != (2 * channels.count,) or deep.shape != (channels.count,):
            raise UsageError(f"statistics {list(source.shape)} and {list(deep.shape)} for {channels.count} channels")
        if tables is None and options.statistics == "de-classed":
            raise UsageError("statistics 'de-classed' needs class tables; prepare the bundle with them, or use 'plain'")
        self._channels, self._options = channels, options
        self._tables = tables if options.statistics == "de-classed" else None
        self._source = source[channels.means].copy(), source[channels.variances].copy()
        self._deep, self._early = deep, ~deep
        self._momentum = np.where(deep, options.deep_momentum, options.early_momentum).astype(np.float32)
        self._leak = np.where(deep, options.leak, 0).astype(np.float32)
        self._drift = np.zeros(channels.count, np.float32)
        self.now = source.copy()

    def take(self, seen: Floats, weights: Floats, certainty: NDArray[np.bool_]) -> Floats:
        """Move by the frames of a batch, in their order.

        Args:
            seen: float32 `[N, S]`, each frame's own means and variances. A frame in which one is not finite moves
                nothing.
            weights: float32 `[N, K]`, how much each frame is of each class.
            certainty: bool `[N]`, which frames may move the deep norms.

        Returns:
            float32 `[S]`, the statistics after them.
        """
        means, variances = self.now[self._channels.means], self.now[self._channels.variances]
        for frame, classes, certain in zip(seen, weights, certainty, strict=True):
            if not np.isfinite(frame).all():
                continue
            b, s = frame[self._channels.means], frame[self._channels.variances]
            means, variances = self._moved(means, variances, b, s, classes, bool(certain))
        self.now[self._channels.means], self.now[self._channels.variances] = means, variances
        return self.now

    def _moved(
        self, means: Floats, variances: Floats, b: Floats, s: Floats, classes: Floats, certain: bool
    ) -> tuple[Floats, Floats]:
        momentum, leak, distance = self._momentum, self._leak, b - means
        if self._tables is None:
            spread = variances + momentum * distance**2
            variances = (1 - momentum) * spread + momentum * s
            means = means + momentum * distance
        else:
            delta = distance - self._tables.offset(classes)
            growth = (s + distance**2) / self._tables.spread(classes) - variances
            momentum = self._momentum_after(delta, certain)
            means = means + momentum * delta
            variances = variances + momentum * np.minimum(growth, _MOST_GROWTH * (variances + _EPSILON))
        source_means, source_variances = self._source
        return means + leak * (source_means - means), variances + leak * (source_variances - variances)

    def _momentum_after(self, delta: Floats, certain: bool) -> Floats:
        """Of each channel for this frame."""
        momentum = self._momentum if certain else np.where(self._deep, np.float32(0), self._momentum)
        boost = self._options.boost
        if boost == 1 or self._tables is None:
            return momentum
        self._drift += _DRIFT_RATE * (delta / (self._tables.fluctuation + _EPSILON) - self._drift)
        moved = float(np.mean(self._drift**2, where=self._early)) if self._early.any() else 0.0
        factor = 1 + (boost - 1) * min(max(moved / _CALM - 1, 0), 1)
        return np.where(self._early, np.float32(factor) * momentum, momentum)

    def arrays(self) -> dict[str, Floats]:
        """What stays from frame to frame beside `now`."""
        return {"drift": self._drift.copy()}

    def restore(self, now: Floats, arrays: Mapping[str, Floats]) -> None:
        """Go on from `now` and what `arrays` gave.

        Raises:
            UsageError: Of other sizes.
        """
        drift = arrays["drift"]
        if now.shape != self.now.shape or drift.shape != self._drift.shape:
            raise UsageError(f"statistics {list(now.shape)} and drift {list(drift.shape)} are of another network")
        self.now[:], self._drift[:] = now, drift
