"""Two hostile states among twenty: what `ecotta merge --robust` leaves out, and what is left of the attack.

Honest ones are those of all boards of measure_fleet.py that lie in its work folder for a way of adapting, whatever the
seed: run `domains` and `kinds` first.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecotta_rt import AdaptState
from ecotta_rt.errors import InputFileError
from ecotta_rt.fleet.flat import FlatStates
from ecotta_rt.fleet.merge import Merged, merge
from ecotta_rt.fleet.options import MergeOptions
from ecotta_rt.fleet.robust import distances
from ecotta_rt.fleet.sources import StateBytes, StateFile, StateSource
from ecotta_rt.state import FramesBehind
from fleet_rows import Rows
from fleet_trial import DOMAINS, Trial

__all__ = ["HOSTILE", "QUARTER", "chosen", "measure", "two_more", "within_limits"]

Attack = Callable[[Trial, Sequence[StateFile], int], StateBytes]

HONEST, HOSTILE, QUARTER = 18, 2, 6
HUGE, NEAR = 1e3, 0.95


def measure(trial: Trial, rows: Rows) -> None:
    """A row without attack, and one for each attack, by each rule.

    A state is tried where its numbers are not those without the attack. Each answer is set beside that without it, and
    without an attack beside that of the plain mean.
    """
    honest, tried = chosen(trial), _Tried(trial)
    for rule, attack in CASES:
        robust = rule != "mean"
        count = 0 if attack == "none" else QUARTER if attack == BY_A_QUARTER else HOSTILE
        states = [ATTACKS[attack](trial, honest, place) for place in range(count)]

        def row(rule: str = rule, robust: bool = robust, states: Sequence[StateBytes] = states) -> Mapping[str, Any]:
            options = MergeOptions(rule=rule, robust=robust)
            without, result = merge(honest, options), merge([*honest, *states], options)
            other = without if states else merge(honest, MergeOptions(rule="mean"))
            left_out = {one.name for one in result.left_out}
            hostile = {one.name for one in states}
            return {
                "left_out": len(left_out & hostile),
                "honest_left_out": len(left_out - hostile),
                "same_to_the_bit": same_numbers(result, without),
                **tried.beside(result.groups[0].state, other.groups[0].state),
            }

        rows.add({"way": trial.way, "seed": trial.seed, "attack": attack, "rule": rule}, row)


class _Tried:
    """Answers of states, each state tried once."""

    def __init__(self, trial: Trial) -> None:
        self._trial, self._known = trial, dict[bytes, dict[str, NDArray[np.bool_]] | None]()

    def beside(self, state: AdaptState, other: AdaptState) -> Mapping[str, Any]:
        """Errors of a state, and the pictures that only it, or only the other gets wrong, over all domains."""
        its, others = self._wrong(state), self._wrong(other)
        if its is None or others is None:
            return {"errors_percent": None}
        return {
            "errors_percent": {name: round(100 * float(wrong.mean()), 2) for name, wrong in its.items()},
            "only_it_is_wrong": sum(int((its[name] & ~others[name]).sum()) for name in DOMAINS),
            "only_without_is_wrong": sum(int((~its[name] & others[name]).sum()) for name in DOMAINS),
        }

    def _wrong(self, state: AdaptState) -> dict[str, NDArray[np.bool_]] | None:
        """None: boards refuse it, since statistics of norms that are held are no longer the bundle's."""
        numbers = replace(state, metadata={}).to_bytes()
        if numbers not in self._known:
            try:
                self._known[numbers] = {name: self._trial.held_wrong(state, name) for name in DOMAINS}
            except InputFileError:
                self._known[numbers] = None
        return self._known[numbers]


def chosen(trial: Trial) -> list[StateFile]:
    """`HONEST` states of boards of all seeds."""
    return _honest(trial)[:HONEST]


def two_more(trial: Trial, honest: Sequence[StateSource], place: int) -> StateBytes:
    """Another honest board, for what two of twenty change that mean no harm."""
    state = AdaptState.load(_honest(trial)[HONEST + place].path)
    return StateBytes(f"hostile-{place}", state.to_bytes())


def _honest(trial: Trial) -> list[StateFile]:
    files = sorted(
        path
        for path in trial.path("x").parent.parent.glob("*/*.state.safetensors")
        if not path.name.startswith("joint")
    )
    if len(files) < HONEST + HOSTILE:
        raise SystemExit(f"{len(files)} states of boards in --work; {HONEST + HOSTILE} are needed")
    places = np.random.default_rng(trial.seed).permutation(len(files))
    return [StateFile(files[place]) for place in places]


def same_numbers(one: Merged, other: Merged) -> bool:
    """To the bit."""
    first, second = one.groups[0].state, other.groups[0].state
    sections = ("parameters", "statistics")
    return all(
        np.array_equal(getattr(first, section)[name], array)
        for section in sections
        for name, array in getattr(second, section).items()
    )


def _changed(change: Callable[[AdaptState], AdaptState]) -> Attack:
    """An attack by a board that changes an honest state before it sends it."""

    def attack(trial: Trial, honest: Sequence[StateFile], place: int) -> StateBytes:
        state = AdaptState.load(honest[place].path)
        return StateBytes(f"hostile-{place}", change(state).to_bytes())

    return attack


def _times(section: str, factor: float) -> Callable[[AdaptState], AdaptState]:
    def change(state: AdaptState) -> AdaptState:
        return replace(state, **{section: {name: factor * array for name, array in getattr(state, section).items()}})

    return change


def _not_a_number(trial: Trial, honest: Sequence[StateFile], place: int) -> StateBytes:
    content = bytearray(honest[place].content())
    content[-4:] = np.float32(np.nan).tobytes()
    return StateBytes(f"hostile-{place}", bytes(content))


def _countless(state: AdaptState) -> AdaptState:
    shifted = _times("statistics", 2.0)(state)
    return replace(shifted, metadata={**state.metadata, **FramesBehind(10**15, 10**15).metadata()})


def within_limits(honest: Sequence[StateSource], place: int, what: str) -> StateBytes:
    """A state as far from the median as is not out of all proportion; all that send it go the same way.

    Norms that all boards hold are left as they are: boards would refuse a merged state in which they are not.

    Args:
        honest: All other states.
        place: Which of the hostile boards it is.
        what: `parameters`; the means of `all norms` that boards move; of `one norm`, the first of these, or of its
            first channel alone (`one channel`), by as much as all of them may be moved together; or with `variances
            of` before these the deviations, upwards.
    """
    reader = FlatStates()
    flat = [reader.read(one) for one in honest]
    far = distances(flat)
    middle = merge(honest, MergeOptions(rule="median")).groups[0].state
    # Two boards do not send the very same.
    statistics = {n: array * np.float32(1 + 1e-6 * place) for n, array in middle.statistics.items()}
    if what == "parameters":
        factor = np.float32(1 - NEAR * far.limits[0])
        parameters = {name: factor * array for name, array in middle.parameters.items()}
        return StateBytes(f"hostile-{place}", replace(middle, parameters=parameters).to_bytes())
    states = [AdaptState.from_bytes(one.content(), one.name) for one in honest]
    norms = [name.removesuffix(".mean") for name in statistics if name.endswith(".mean") and _moves(states, name)]
    part = what.removeprefix("variances of ")
    norms = norms if part == "all norms" else norms[:1]
    moved = slice(0, 1) if part == "one channel" else slice(None)
    coordinates = 2 * len(flat[0].arrangement.means)
    channels = sum(statistics[f"{norm}.mean"][moved].size for norm in norms)
    shift = np.float32(NEAR * far.limits[1] * np.sqrt(coordinates / channels))
    for norm in norms:
        mean, variance = (statistics[f"{norm}.{name}"].copy() for name in ("mean", "variance"))
        deviation = np.sqrt(variance[moved])
        if part == what:
            mean[moved] += shift * deviation
        else:
            variance[moved] = np.square((1 + shift) * deviation)
        statistics |= {f"{norm}.mean": mean, f"{norm}.variance": variance}
    held = {n: array for n, array in middle.statistics.items() if not _moves(states, n)}
    return StateBytes(f"hostile-{place}", replace(middle, statistics={**statistics, **held}).to_bytes())


def _moves(states: Sequence[AdaptState], name: str) -> bool:
    return any(not np.array_equal(state.statistics[name], states[0].statistics[name]) for state in states)


def _as_far_as_allowed(what: str) -> Attack:
    return lambda trial, honest, place: within_limits(honest, place, what)


VARIANCES = "variances of one norm", "variances of one channel"
BY_A_QUARTER = "as far as the limit lets, all norms, by 6 of 24"

ATTACKS: Mapping[str, Attack] = {
    "none, but two honest boards more": two_more,
    "not a number": _not_a_number,
    "huge parameters": _changed(_times("parameters", HUGE)),
    "huge statistics": _changed(_times("statistics", HUGE)),
    "signs of parameters": _changed(_times("parameters", -1.0)),
    "another network": _changed(lambda state: replace(state, network_digest="0" * 64)),
    "another network's numbers": _changed(
        lambda state: replace(
            state,
            parameters={
                name: np.random.default_rng(1).permutation(array.ravel()).reshape(array.shape)
                for name, array in state.parameters.items()
            },
        )
    ),
    "countless frames claimed": _changed(_countless),
    "as far as the limit lets, parameters": _as_far_as_allowed("parameters"),
    "as far as the limit lets, all norms": _as_far_as_allowed("all norms"),
    "as far as the limit lets, one norm": _as_far_as_allowed("one norm"),
    BY_A_QUARTER: _as_far_as_allowed("all norms"),
    **{f"as far as the limit lets, {what}": _as_far_as_allowed(what) for what in VARIANCES},
}

_LET_THROUGH = [name for name in ATTACKS if name.startswith("as far")]
CASES = (
    *(("clipped-mean", attack) for attack in ("none", *ATTACKS)),
    *(("trimmed-mean", attack) for attack in ("none", *_LET_THROUGH)),
    *(("mean", attack) for attack in ("none", "signs of parameters", "as far as the limit lets, all norms")),
)
"""Rule and attack of each row: all attacks by the default rule of a robust merge, what is let through by others too."""
