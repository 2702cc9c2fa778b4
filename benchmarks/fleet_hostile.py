"""Two hostile states among twenty: what `ecotta merge --robust` leaves out, and what is left of the attack.

Honest ones are those of all boards of measure_fleet.py that lie in its work folder for a way of adapting, whatever the
seed: run `domains` and `kinds` first.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ecotta_rt import AdaptState
from ecotta_rt.errors import InputFileError
from ecotta_rt.fleet.flat import FlatStates
from ecotta_rt.fleet.merge import Merged, MergeOptions, merge
from ecotta_rt.fleet.robust import distances
from ecotta_rt.fleet.sources import StateBytes, StateFile
from ecotta_rt.state import FramesBehind
from fleet_rows import Rows
from fleet_trial import DOMAINS, Trial

__all__ = ["measure"]

HONEST, HOSTILE = 18, 2
HUGE, NEAR = 1e3, 0.95


def measure(trial: Trial, rows: Rows) -> None:
    """A row without attack, one for each attack, and one for all of them together."""
    honest = chosen(trial)
    without = merge(honest, MergeOptions(robust=True))
    about = {"way": trial.way, "seed": trial.seed}

    def row(states: Sequence[StateBytes], robust: bool) -> Mapping[str, Any]:
        result = merge([*honest, *states], MergeOptions(robust=robust))
        left_out = {one.name for one in result.left_out}
        hostile = {one.name for one in states}
        same = same_numbers(result, without)
        return {
            "left_out": len(left_out & hostile),
            "honest_left_out": len(left_out - hostile),
            "same_to_the_bit": same,
            "errors_percent": errors(trial, (without if same else result).groups[0].state),
        }

    known: dict[bytes, dict[str, float] | None] = {}

    def errors(trial: Trial, state: AdaptState) -> dict[str, float] | None:
        """None: boards refuse it, since statistics of norms that are held are no longer the bundle's."""
        content = state.to_bytes()
        if content not in known:
            try:
                known[content] = {name: round(trial.held_error(state, name), 2) for name in DOMAINS}
            except InputFileError:
                known[content] = None
        return known[content]

    rows.add({**about, "attack": "none", "robust": True}, lambda: row([], True))
    rows.add({**about, "attack": "none", "robust": False}, lambda: row([], False))
    for name, make in ATTACKS.items():
        states = [make(trial, honest, place) for place in range(HOSTILE)]
        rows.add({**about, "attack": name, "robust": True}, lambda states=states: row(states, True))
    for name in ("signs of parameters", "as far as the limit lets, statistics"):
        states = [ATTACKS[name](trial, honest, place) for place in range(HOSTILE)]
        rows.add({**about, "attack": name, "robust": False}, lambda states=states: row(states, False))


def chosen(trial: Trial) -> list[StateFile]:
    """`HONEST` states of boards of all seeds."""
    files = sorted(
        path
        for path in trial.path("x").parent.parent.glob("*/*.state.safetensors")
        if not path.name.startswith("joint")
    )
    if len(files) < HONEST:
        raise SystemExit(f"{len(files)} states of boards in --work; {HONEST} are needed")
    places = np.random.default_rng(trial.seed).permutation(len(files))[:HONEST]
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


Attack = Callable[[Trial, Sequence[StateFile], int], StateBytes]


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


def _as_far_as_allowed(section: str) -> Attack:
    """Both go the same way, as far as is not out of all proportion: nothing that is sent is refused."""

    def attack(trial: Trial, honest: Sequence[StateFile], place: int) -> StateBytes:
        reader = FlatStates()
        flat = [reader.read(one) for one in honest]
        far = distances(flat)
        middle = merge(honest, MergeOptions(rule="median")).groups[0].state
        if section == "parameters":
            limit = NEAR * far.limits[0]
            hostile = _times("parameters", 1 - limit)(middle)
        else:
            limit = NEAR * far.limits[1]
            statistics = dict(middle.statistics)
            for name in statistics:
                if name.endswith(".mean"):
                    deviation = np.sqrt(statistics[name.removesuffix("mean") + "variance"])
                    statistics[name] = statistics[name] + np.sqrt(2).astype(np.float32) * np.float32(limit) * deviation
            hostile = replace(middle, statistics=statistics)
        tiny = np.float32(1 + 1e-6 * place)  # two boards do not send the very same
        hostile = replace(hostile, statistics={n: array * tiny for n, array in hostile.statistics.items()})
        return StateBytes(f"hostile-{place}", hostile.to_bytes())

    return attack


ATTACKS: Mapping[str, Attack] = {
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
    "as far as the limit lets, statistics": _as_far_as_allowed("statistics"),
}
