"""From the answers to a stream to figures: errors over all frames, by corruption, visit and part, and after changes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ecotta_rt.bench.streams.frame_plan import FramePlan, Span

__all__ = ["AFTER", "WINDOW", "Errors", "Group", "score"]

WINDOW = 100
"""Frames of a point in an error over time."""

AFTER = (50, 100)
"""How many frames after a change are looked at alone."""

_SINCE = {"0": (0, 1), "1-2": (1, 3), "3-9": (3, 10), "10+": (10, np.inf)}

Marks = NDArray[np.bool_]


@dataclass(frozen=True)
class Group:
    """Some spans of a stream.

    Attributes:
        frames: Valid ones.
        error_percent: Wrong answers in 100 valid frames.
        first_50, first_100: The same over the first frames of each span alone, all spans together.
    """

    frames: int
    error_percent: float
    first_50: float
    first_100: float


@dataclass(frozen=True)
class Errors:
    """What became of one answer.

    Attributes:
        error_percent: Wrong answers in 100 valid frames, over the whole stream.
        after_change: Over the spans that begin with another corruption than before.
        by_corruption: Corruption -> error in percent; `clean` may be among them.
        by_visit: Number of the visit, as text -> its spans; empty where no corruption comes twice.
        by_part: Name of the part -> its spans; empty where a protocol has only one.
        since_class_change: How many valid frames ago a class came, as text -> error in percent of such frames.
        windows: Wrong answers in each 100 valid frames, in order; the last may have fewer.
    """

    error_percent: float
    after_change: Group
    by_corruption: Mapping[str, float]
    by_visit: Mapping[str, Group]
    by_part: Mapping[str, Group]
    since_class_change: Mapping[str, float]
    windows: tuple[int, ...]


def score(plan: FramePlan, answers: NDArray[np.integer]) -> Errors:
    """The figures of one answer to a stream.

    Args:
        plan: The stream, of N frames.
        answers: A label a frame, integers `[N]`.
    """
    valid, wrong = plan.valid, answers != plan.labels
    counted = wrong[valid]
    since = plan.since_class_change()
    names = np.array(plan.names)[plan.corruptions]
    return Errors(
        _percent(counted),
        _group(plan, wrong, lambda span: span.change),
        {name: _percent(wrong[valid & (names == name)]) for name in plan.names if (valid & (names == name)).any()},
        _groups(plan, wrong, lambda span: str(span.visit)),
        _groups(plan, wrong, lambda span: span.part),
        {
            name: _percent(counted[(since >= least) & (since < end)])
            for name, (least, end) in _SINCE.items()
            if ((since >= least) & (since < end)).any()
        },
        tuple(int(counted[start : start + WINDOW].sum()) for start in range(0, len(counted), WINDOW)),
    )


def _groups(plan: FramePlan, wrong: Marks, name: Callable[[Span], str]) -> dict[str, Group]:
    """A group for each name that spans have; nothing where they all have one."""
    names = dict.fromkeys(map(name, plan.spans))
    if len(names) == 1:
        return {}
    return {wanted: _group(plan, wrong, lambda span, wanted=wanted: name(span) == wanted) for wanted in names}  # type: ignore[misc]


def _group(plan: FramePlan, wrong: Marks, takes: Callable[[Span], bool]) -> Group:
    valid = plan.valid
    spans = [wrong[span.start : span.stop][valid[span.start : span.stop]] for span in plan.spans if takes(span)]
    every = np.concatenate(spans)
    first_50, first_100 = (_percent(np.concatenate([span[:count] for span in spans])) for count in AFTER)
    return Group(len(every), _percent(every), first_50, first_100)


def _percent(wrong: Marks) -> float:
    return round(100 * float(wrong.mean()), 3)
