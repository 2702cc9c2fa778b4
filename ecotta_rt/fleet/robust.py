"""Merging that a few broken or hostile states cannot turn: medians and trimmed means, each coordinate by itself.

All states count alike, since a state may claim any number of frames. Of means m_j and variances v_j over the states j,

    m = middle(m_j)        v = middle(v_j + (m_j - m)^2)

where `middle` is the median, or the mean without a fifth of the states at either end: equal states give themselves
back. Coordinates are taken in blocks, so that thousands of states are never in memory at once.

Source:
    Yin et al. 2018, Byzantine-robust distributed learning, ICML, for both middles; they hold against less than half
    (median) and less than the trimmed share (trimmed mean) of the states.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ecotta_rt.fleet.flat import FlatState

__all__ = ["FAR", "TRIMMED_SHARE", "Distances", "Middle", "distances", "median", "middle_of", "trimmed_mean"]

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Middle = Callable[[NDArray[np.floating]], Doubles]

TRIMMED_SHARE = 0.2
"""Of the states, left out at either end of each coordinate by `trimmed_mean`; of three or four, one."""

FAR = 5.0
"""A state is out of all proportion when it is further from the middle than so many times the usual distance."""

_MOST_SHARE = 0.75
"""Nor may its parameters be further than this share of their size: of two that are far apart neither is usual."""

_LEAST_SHARE = 0.1
_LEAST_DEVIATIONS = 0.1
"""The usual distance is never taken for less than this share of the parameters' size, and so many standard deviations
of the statistics: where most boards have not moved yet, one that has learned is no stranger. Boards of ResNet-20 and
WRN-40-2, each for 300 frames in another corruption at severity 5, were 0.01 of the size and 0.07 deviations away at
most (benchmarks/measure_fleet.py), and those of ResNet-20 that saw nothing but black or white frames 0.21."""

_BLOCK_BYTES = 16 << 20
_TILE = 64
_EPSILON = 1e-5  # that of the norms


def median(values: NDArray[np.floating]) -> Doubles:
    """Over the last axis.

    Args:
        values: `[B, n]`, sorted along the last axis.

    Returns:
        float64 `[B]`; of an even number the mean of the two in the middle.
    """
    count = values.shape[-1]
    return (values[..., (count - 1) // 2].astype(np.float64) + values[..., count // 2]) / 2


def trimmed_mean(values: NDArray[np.floating]) -> Doubles:
    """The mean over the last axis without `TRIMMED_SHARE` of the values at either end; shapes as `median`."""
    count = values.shape[-1]
    cut = min(max(int(TRIMMED_SHARE * count), 1), (count - 1) // 2)
    mean: Doubles = values[..., cut : count - cut].mean(axis=-1, dtype=np.float64)
    return mean


def middle_of(states: Sequence[FlatState], middle: Middle) -> Doubles:
    """The middle of the states' vectors.

    Args:
        states: At least one, all of one arrangement.
        middle: `median` or `trimmed_mean`.

    Returns:
        float64 `[size]`.
    """
    arrangement = states[0].arrangement
    result = np.empty(arrangement.size)
    for block, values in _parameter_blocks(states):
        result[block] = middle(_by_coordinate(values))
    for channels, means, variances in _channel_blocks(states):
        result[arrangement.means[channels]] = centre = middle(_by_coordinate(means))
        result[arrangement.variances[channels]] = _middle_variance(means, variances, centre, middle)
    return result


@dataclass(frozen=True)
class Distances:
    """How far states are from the median of all, each float64 `[n]`.

    Attributes:
        parameters: Root of the mean square over the parameters, as a share of the usual size of the states' own.
        statistics: Root of the mean square over means and standard deviations, in standard deviations of the median.
        centre: float64 `[size]`, the coordinate-wise median that they are measured from; of variances the square of
            that of the standard deviations.
        middle: What `middle_of` gives of the same states, where it was asked for.
    """

    parameters: Doubles
    statistics: Doubles
    centre: Doubles
    middle: Doubles | None = None

    @property
    def limits(self) -> tuple[float, float]:
        """What is out of all proportion is further away than this: in parameters, and in statistics."""
        usual = float(np.median(self.parameters)), float(np.median(self.statistics))
        return min(FAR * max(usual[0], _LEAST_SHARE), _MOST_SHARE), FAR * max(usual[1], _LEAST_DEVIATIONS)

    def why_far(self, times: float = 1.0) -> dict[int, str]:
        """Which states are out of all proportion, and in what; in statistics `times` as far as the limit."""
        found: dict[int, str] = {}
        units = "of their own size", "standard deviations"
        limits = self.limits[0], times * self.limits[1]
        every = zip(("parameters", "statistics"), (self.parameters, self.statistics), limits, units, strict=True)
        for what, values, limit, unit in every:
            for place in np.flatnonzero(values > limit):
                far = f"{values[place]:.3g} {unit} from the median of all states"
                why = f"its {what} are {far}; half of all are within {np.median(values):.2g}, the limit is {limit:.3g}"
                found.setdefault(int(place), why)
        return found


def distances(states: Sequence[FlatState], middle: Middle | None = None) -> Distances:
    """How far each state is from the coordinate-wise median of all.

    Args:
        states: At least one, all of one arrangement.
        middle: Take the middle of all on the way, for the case that none is too far: to read and sort them is the work.
    """
    count, arrangement = len(states), states[0].arrangement
    parameters, statistics = np.zeros(count), np.zeros(count)
    median_state = np.empty(arrangement.size)
    result = None if middle is None else np.empty(arrangement.size)
    with np.errstate(over="ignore", invalid="ignore"):  # too far to be told is far
        for block, values in _parameter_blocks(states):
            ordered = _by_coordinate(values)
            median_state[block] = centre = median(ordered)
            parameters += _squares(values, centre)
            if middle is not None and result is not None:
                result[block] = middle(ordered)
        for channels, means, variances in _channel_blocks(states):
            ordered, ordered_variances = _by_coordinate(means), _by_coordinate(variances)
            median_state[arrangement.means[channels]] = centre = median(ordered)
            # In float64: of norms that are held the square is their variance again, to the bit of float32.
            usual = median(np.sqrt(ordered_variances[:, (count - 1) // 2 : count // 2 + 1].astype(np.float64)))
            median_state[arrangement.variances[channels]] = np.square(usual)
            unit = np.sqrt(np.square(usual) + _EPSILON)
            statistics += _squares(means, centre, unit)
            statistics += _squares(np.sqrt(variances), usual, unit)
            if middle is not None and result is not None:
                result[arrangement.means[channels]] = centre = middle(ordered)
                result[arrangement.variances[channels]] = _middle_variance(means, variances, centre, middle)
        coordinates = max(1, 2 * len(arrangement.means))
        size = float(np.median([state.magnitudes[0] for state in states])) or 1.0
        of_parameters = np.sqrt(parameters / max(1, arrangement.parameter_count)) / size
        of_statistics = np.sqrt(statistics / coordinates)
    of_parameters, of_statistics = (np.where(np.isnan(its), np.inf, its) for its in (of_parameters, of_statistics))
    return Distances(of_parameters, of_statistics, median_state, result)


def _middle_variance(means: Floats, variances: Floats, centre: Doubles, middle: Middle) -> Doubles:
    """float64 `[B]`, of means and variances `[n, B]` around a middle of the means `[B]`."""
    return middle(_by_coordinate(variances + np.square(means - centre)))


def _squares(values: Floats, centre: Doubles, unit: Doubles | None = None) -> Doubles:
    """float64 `[n]`: of the distances of values `[n, B]` from a centre `[B]`, in units `[B]`, the sums of squares."""
    apart = values - centre.astype(np.float32)
    if unit is not None:
        apart /= unit.astype(np.float32)
    squares: Doubles = np.einsum("ij,ij->i", apart, apart).astype(np.float64)
    return squares


def _by_coordinate(values: NDArray[np.floating]) -> NDArray[np.floating]:
    """Values `[n, B]` of states as `[B, n]`, sorted along the last axis.

    In tiles: to write whole columns is four times as slow as to sort them.
    """
    count, coordinates = values.shape
    turned = np.empty((coordinates, count), values.dtype)
    for first in range(0, count, _TILE):
        for start in range(0, coordinates, _TILE):
            here, there = slice(first, first + _TILE), slice(start, start + _TILE)
            turned[there, here] = values[here, there].T
    turned.sort(axis=-1)
    return turned


def _parameter_blocks(states: Sequence[FlatState]) -> Iterator[tuple[slice, Floats]]:
    """Some of the parameters of all states at a time: where in the vector, and their values `[n, B]`."""
    count = states[0].arrangement.parameter_count
    step = max(1, _BLOCK_BYTES // (4 * len(states)))
    for first in range(0, count, step):
        block = slice(first, min(first + step, count))
        values = np.empty((len(states), block.stop - first), np.float32)
        for row, state in zip(values, states, strict=True):
            row[:] = state.vector(first, block.stop)
        yield block, values


def _channel_blocks(states: Sequence[FlatState]) -> Iterator[tuple[slice, Floats, Floats]]:
    """Some channels of all norms of all states at a time: which, their means `[n, B]` and their variances."""
    arrangement = states[0].arrangement
    count, first = len(arrangement.means), arrangement.parameter_count
    step = max(1, _BLOCK_BYTES // (8 * len(states)))
    for start in range(0, count, step):
        channels = slice(start, min(start + step, count))
        places = arrangement.means[channels] - first, arrangement.variances[channels] - first
        means, variances = (np.empty((len(states), channels.stop - start), np.float32) for _ in places)
        for row, state in enumerate(states):
            statistics = state.vector(first)
            means[row], variances[row] = statistics[places[0]], statistics[places[1]]
        yield channels, means, variances
