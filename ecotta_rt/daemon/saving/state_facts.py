"""What a state says about the stream that made it, as plain values: for people and for JSON."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecotta_rt.adapt.filter import AnswerFilter
from ecotta_rt.adapt.places import saved_numbers
from ecotta_rt.errors import UsageError
from ecotta_rt.state import AdaptState

__all__ = ["differences", "distances", "state_facts"]

_LEAST_VARIANCE = 1e-8
_PARTS = ("parameters", "momentum", "statistics", "adaptation/filter", "adaptation/places")


def state_facts(state: AdaptState, source: AdaptState | None = None, classes: tuple[str, ...] = ()) -> dict[str, Any]:
    """All that `ecotta state show` says of a state.

    Args:
        state: It.
        source: The bundle's own state, to tell how far this one is from it.
        classes: Names of the network's classes.
    """
    behind = state.behind
    return {
        "network_digest": state.network_digest,
        "frames_followed": behind.followed,
        "frames_learned": behind.learned,
        "numbers": {name: sum(a.size for a in arrays.values()) for name, arrays in _sections(state).items()},
        "distance": None if source is None else distances(state, source),
        "filter": _filter(state, classes),
        "places": saved_numbers(_part(state, "places.")),
        "metadata": {name: text for name, text in state.metadata.items() if name not in behind.metadata()},
    }


def distances(state: AdaptState, source: AdaptState) -> dict[str, float]:
    """How far the statistics of each norm are from those of the source, in its standard deviations.

    Returns:
        By norm sqrt(mean_c (m - m0)^2 / v0), as `ecotta_rt.adapt.signs` has it; infinite where it is not finite, and
        nothing for a norm that is not in both, with equally many channels.
    """
    found = {}
    for name, mean in state.statistics.items():
        norm, _, what = name.rpartition(".")
        first, variance = source.statistics.get(name), source.statistics.get(f"{norm}.variance")
        if what != "mean" or first is None or variance is None or not mean.shape == first.shape == variance.shape:
            continue
        with np.errstate(over="ignore", invalid="ignore"):
            squares = (mean.astype(np.float64) - first) ** 2 / np.maximum(variance.astype(np.float64), _LEAST_VARIANCE)
            distance = float(np.sqrt(squares.mean())) if squares.size else 0.0
        found[norm] = distance if np.isfinite(distance) else float("inf")
    return found


def differences(one: AdaptState, other: AdaptState) -> dict[str, dict[str, Any]]:
    """By part of a state: how many arrays it has, how many differ, the largest difference and where it is.

    Differences are relative to the larger magnitude, as `AdaptState.compare` has them: infinite where an array is in
    only one of the two.
    """
    found = {}
    compared = one.compare(other)
    for part in _PARTS:
        inside = {name: value for name, value in compared.items() if name.startswith((f"{part}/", f"{part}."))}
        if inside:
            where = max(inside, key=lambda name: inside[name])
            found[part] = {
                "arrays": len(inside),
                "differ": sum(value > 0 for value in inside.values()),
                "largest": inside[where],
                "where": where.removeprefix(part)[1:] if inside[where] > 0 else None,
            }
    return found


def _sections(state: AdaptState) -> dict[str, Mapping[str, NDArray[np.float32]]]:
    return {
        "parameters": state.parameters,
        "momentum": state.momentum,
        "statistics": state.statistics,
        "adaptation": state.adaptation,
    }


def _part(state: AdaptState, prefix: str) -> dict[str, NDArray[np.float32]]:
    return {name.removeprefix(prefix): array for name, array in state.adaptation.items() if name.startswith(prefix)}


def _filter(state: AdaptState, classes: tuple[str, ...]) -> dict[str, Any] | None:
    """What the filter believes; None where there is none, or none that can be gone on from."""
    arrays = _part(state, "filter.")
    beliefs = arrays.get("beliefs")
    if (
        beliefs is None
        or beliefs.ndim != 2
        or beliefs.shape[1] < 2
        or arrays.keys() != {"beliefs", "trusts", "evidence"}
    ):
        return None
    answers = AnswerFilter(beliefs.shape[1], most_trust=1.0)
    try:
        answers.restore(arrays)
    except UsageError:
        return None
    belief = answers.weights @ answers.beliefs
    label = int(belief.argmax())
    return {
        "class_index": label,
        "label": classes[label] if label < len(classes) else None,
        "belief": float(belief[label]),
        "trust": float(answers.weights @ answers.trusts),
        "evidence_nats": answers.evidence.tolist(),
    }
