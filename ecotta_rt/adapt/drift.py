"""Notice that a scene has changed, for people: slower than the memory of places, and wrong far less often.

The memory of places acts on its changes at once, and one that is none costs it little. Who is told of each wants few
that are none. So this looks at longer stretches. With k the key of a frame (see `ecotta_rt.adapt.places`), m and v mean
and variance of each of its D numbers over the n frames of this scene (the last w = 32 apart; the oldest fade after 300;
each frame counts as at most three deviations away; they begin at the median of 32 frames and at half of what v was
before and half of these frames' own, by their median deviation), and z = (k - m) / sqrt(v):

    shift    (mean_d r_d^2) / (1/w + 1/n + c),      r = mean of clip(z, -3, 3) over the last w frames
    spread   (mean of y over them)^2 / (1/w + 1/n + c) / 4,      y = clip((x - mean x) / sd x, -3, 3)
                                                                 x = ln mean_d clip(z, -5, 5)^2
    drift    max(shift, spread) > limit; then all begins anew with the frames to come

1/w + 1/n is what chance does to frames in random order, and c = 0.03 is what a run of one class adds to it. Shift sees
that frames lie elsewhere, spread that they lie nearer to each other or farther apart than before: from a scene whose
frames scatter to one whose frames do not, nothing need shift by much of the scatter.

A change that takes several hundred frames is followed and never noticed, and neither is one within 52 frames of the
last. Nothing here moves an answer, and nothing is saved: a run that goes on from its state learns the scene anew.

Source:
    Two-sample tests over sliding windows: Kifer et al. 2004, Detecting change in data streams (VLDB). The statistics
    are our own; constants and limit were chosen on training images, see `docs/explanation/signs.md`.
"""

import numpy as np
from numpy.typing import NDArray

from ecotta_rt.errors import UsageError

__all__ = ["DRIFT_LIMIT", "DriftDetector"]

Doubles = NDArray[np.float64]

DRIFT_LIMIT = 5.0
"""In units of what chance does."""

_WINDOW, _SETTLED, _MEMORY = 32, 20, 300
_CLASS_RUN = 0.03
_MOST_SHIFT, _MOST_UNITS, _SPREAD_UNITS = 3.0, 5.0, 4.0
_FIRST_VARIANCE, _LEAST_VARIANCE, _HEAD_START = 1.0, 0.05, 30  # keys are whitened at the source
_FIRST_SCATTER = 0.3
_LEAST_DISTANCE = 1e-3
_DEVIATION = 1.4826  # a normal one by the median distance from the median


class DriftDetector:
    """Looks at the keys of one stream.

    Args:
        numbers: D, in a key.
        limit: Above which the scene has changed; at least 0.

    Attributes:
        size: The larger of shift and spread, after the last frame; 0 where there are too few frames to say.

    Raises:
        UsageError: A limit below 0.
    """

    def __init__(self, numbers: int, limit: float = DRIFT_LIMIT) -> None:
        if not limit >= 0:
            raise UsageError(f"drift limit {limit:g}: give 0 or more")
        self._limit = limit
        self._window = np.zeros((_WINDOW, numbers))
        self._variance = np.full(numbers, _FIRST_VARIANCE)
        self._scatter = _FIRST_SCATTER  # the variance of x
        self._begin()

    def _begin(self) -> None:
        self._frames = self._settled = 0
        self._mean = np.zeros(self._window.shape[1])
        self._distance = 0.0  # the mean of x
        self.size = 0.0

    def take(self, key: NDArray[np.floating]) -> float | None:
        """Look at a frame.

        Args:
            key: `[D]`, finite.

        Returns:
            How far the scene has changed, in units of what chance does; None: it has not, as far as can be seen.
        """
        place = self._frames % _WINDOW
        if self._frames >= _WINDOW:
            self._settle(self._window[place].copy())
        self._window[place] = key
        self._frames += 1
        if self._settled < _SETTLED:
            return None
        units = (self._window - self._mean) / np.sqrt(self._variance)
        shift = _clipped(units, _MOST_SHIFT).mean(axis=0)
        scatter = np.sqrt(self._scatter)
        spread = float(_clipped((_log_distance(units) - self._distance) / scatter, _MOST_SHIFT).mean())
        chance = 1 / _WINDOW + 1 / self._settled + _CLASS_RUN
        self.size = max(float(shift @ shift) / len(shift), spread * spread / _SPREAD_UNITS) / chance
        if self.size <= self._limit:
            return None
        size = self.size
        self._begin()
        return size

    def _settle(self, key: Doubles) -> None:
        """Count a frame that has left the window to the scene."""
        self._settled = n = min(self._settled + 1, _MEMORY)
        if n == 1:  # whatever this one frame is
            self._mean = np.median(self._window, axis=0)
            apart = _DEVIATION * np.median(np.abs(self._window - self._mean), axis=0)
            self._variance = np.maximum((self._variance + apart * apart) / 2, _LEAST_VARIANCE)
        deviation, scatter = np.sqrt(self._variance), float(np.sqrt(self._scatter))
        units = (key - self._mean) / deviation
        off = _clipped(units, _MOST_SHIFT)
        distance = float(_log_distance(units[None])[0]) - self._distance  # before the mean has moved to the frame
        if n > 1:
            self._mean = self._mean + off * deviation / n
            left = _clipped((key - self._mean) / deviation, _MOST_SHIFT)
            weight = min(n + _HEAD_START, _MEMORY)  # what they were in the scene before counts as so many frames
            moved = self._variance * (1 + (off * left - 1) / weight)
            self._variance = np.maximum(moved, _LEAST_VARIANCE)
            distance = min(max(distance, -_MOST_SHIFT * scatter), _MOST_SHIFT * scatter)
            self._scatter += (distance * distance - self._scatter) / weight
        self._distance += distance / n


def _clipped(values: Doubles, most: float) -> Doubles:
    return np.minimum(np.maximum(values, -most), most)


def _log_distance(units: Doubles) -> Doubles:
    """Of each row of z its x."""
    clipped = _clipped(units, _MOST_UNITS)
    distances: Doubles = np.log(np.einsum("nd,nd->n", clipped, clipped) / units.shape[1] + _LEAST_DISTANCE)
    return distances
