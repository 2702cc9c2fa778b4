"""How far hostile states, two of twenty, move what a robust rule makes of them, and how far that is from the mean.

No picture is needed: distances are those of `ecotta_rt.fleet.robust`, over means and standard deviations of all norms,
in standard deviations of the mean of the honest. A rule is to stay near that mean, with and without the hostile.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecotta_rt.fleet.clipping import clipped_mean
from ecotta_rt.fleet.flat import FlatState, FlatStates
from ecotta_rt.fleet.pooling import PooledMoments
from ecotta_rt.fleet.robust import Middle, median, middle_of
from ecotta_rt.fleet.sources import StateBytes, StateFile
from fleet_hostile import HOSTILE, QUARTER, VARIANCES, chosen, two_more, within_limits
from fleet_rows import Rows
from fleet_trial import CHOOSING, Trial

__all__ = ["choose_rule", "measure"]

Doubles = NDArray[np.float64]

WITHIN_LIMITS = ("parameters", "all norms", "one norm", "one channel", "variances of all norms", *VARIANCES)


def measure(trial: Trial, rows: Rows) -> None:
    """A row for each rule."""
    honest = chosen(trial)
    hostile = {name: [within_limits(honest, place, name) for place in range(HOSTILE)] for name in WITHIN_LIMITS}
    hostile["all norms, by a quarter"] = [within_limits(honest, place, "all norms") for place in range(QUARTER)]
    hostile["two honest boards more"] = [two_more(trial, honest, place) for place in range(HOSTILE)]
    _add(trial, rows, honest, hostile)


def choose_rule(trial: Trial, rows: Rows) -> None:
    """The same of few boards in other corruptions than those of the test, with one or two hostile ones more."""
    for board in CHOOSING:
        trial.board_state(board)
    honest = [StateFile(trial.path(board.name)) for board in CHOOSING]
    hostile = {
        f"{name}, by {count} of {len(honest) + count}": [within_limits(honest, place, name) for place in range(count)]
        for count in (1, HOSTILE)
        for name in ("all norms", *VARIANCES)
    }
    _add(trial, rows, honest, hostile)


def _add(trial: Trial, rows: Rows, honest: Sequence[StateFile], hostile: Mapping[str, Sequence[StateBytes]]) -> None:
    reader = FlatStates()
    states = [reader.read(one) for one in honest]
    attacked = {name: [*states, *map(reader.read, its)] for name, its in hostile.items()}
    mean = pooled(states)

    def row(rule: Callable[[Sequence[FlatState]], Doubles]) -> Mapping[str, Any]:
        without = rule(states)
        return {
            "from_mean": round(apart(without, mean, states[0], mean), 5),
            "moved": {name: round(apart(rule(its), without, states[0], mean), 5) for name, its in attacked.items()},
        }

    for name, rule in RULES.items():
        rows.add({"way": trial.way, "seed": trial.seed, "rule": name}, lambda rule=rule: row(rule))


def apart(one: Doubles, other: Doubles, like: FlatState, unit: Doubles) -> float:
    """Root of the mean square over means and standard deviations, in standard deviations of `unit`."""
    means, variances = like.arrangement.means, like.arrangement.variances
    deviations = np.sqrt(unit[variances] + 1e-5)
    parts = (one[means] - other[means], np.sqrt(one[variances]) - np.sqrt(other[variances]))
    return float(np.sqrt(np.mean([np.square(part / deviations) for part in parts])))


def pooled(states: Sequence[FlatState]) -> Doubles:
    """The mean; only its statistics."""
    arrangement = states[0].arrangement
    moments, result = PooledMoments(len(arrangement.means)), np.zeros(arrangement.size)
    for state in states:
        moments.add(state.vector()[arrangement.means], state.vector()[arrangement.variances], 1)
    result[arrangement.means], result[arrangement.variances] = moments.means, moments.variances
    return result


def by(middle: Middle) -> Callable[[Sequence[FlatState]], Doubles]:
    """Coordinate by coordinate."""
    return lambda states: middle_of(states, middle)


def trimmed(share: float, values: NDArray[np.floating]) -> Doubles:
    """The mean without a share at either end, of sorted values `[B, n]`."""
    count = values.shape[-1]
    cut = min(max(int(share * count), 1), (count - 1) // 2)
    mean: Doubles = values[..., cut : count - cut].mean(axis=-1, dtype=np.float64)
    return mean


def fenced(width: float, values: NDArray[np.floating]) -> Doubles:
    """The mean of values drawn in to fences, so many times what lies between the fifths beyond these (Tukey 1977)."""
    count = values.shape[-1]
    cut = min(max(int(0.2 * count), 1), (count - 1) // 2)
    low, high = values[..., cut : cut + 1], values[..., count - 1 - cut : count - cut]
    beyond = np.float32(width) * (high - low)
    mean: Doubles = np.clip(values, low - beyond, high + beyond).mean(axis=-1, dtype=np.float64)
    return mean


RULES: Mapping[str, Callable[[Sequence[FlatState]], Doubles]] = {
    "mean": pooled,
    "median": by(median),
    "trimmed mean, a fifth": by(partial(trimmed, 0.2)),
    "trimmed mean, a tenth": by(partial(trimmed, 0.1)),
    "fences": by(partial(fenced, 1.0)),
    "clipped mean": clipped_mean,
}
