"""Merge the states of a fleet: into one for all, or into one for each kind of place.

    merged = merge([Path("door.state.safetensors"), StateBytes("yard", sent)], MergeOptions(robust=True))
    merged.groups[0].state.save("all.state.safetensors")

Momentum begins anew in a merged state, and so does what a run remembers of its stream (filter, places). It counts the
frames of all: so merged states can be merged.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ecotta_rt.errors import InputFileError, UsageError
from ecotta_rt.fleet.clusters import Clusters, clusters_of, require_few
from ecotta_rt.fleet.flat import FlatState
from ecotta_rt.fleet.pooling import PooledMoments, WeightedMean
from ecotta_rt.fleet.robust import Middle, distances, median, middle_of, trimmed_mean
from ecotta_rt.fleet.sources import StateSource, as_source
from ecotta_rt.fleet.survey import LeftOut, Surveyed, survey
from ecotta_rt.state import MERGED, AdaptState, FramesBehind

__all__ = ["RULES", "MergeOptions", "Merged", "MergedGroup", "merge"]

Doubles = NDArray[np.float64]
Report = Callable[[int, int, str], None]

RULES = ("mean", "median", "trimmed-mean")
_MIDDLES = {"median": median, "trimmed-mean": trimmed_mean}
_WILD = 10.0
"""Times what is out of all proportion: so far from all kinds of places that it is none of them."""

_MERGED_STATES, _MERGED_BY = f"{MERGED}states", f"{MERGED}rule"
_MOST_FRAMES = 10**18  # more are not read back
_SNAPSHOT = "snapshot."  # what a daemon says of a file, and not of what is in it


@dataclass(frozen=True)
class MergeOptions:
    """How to merge.

    Attributes:
        rule: `mean` pools linearly, `median` and `trimmed-mean` hold against a few hostile states; None: the mean, or
            the trimmed mean with `robust`.
        weights: `counts`: statistics by the frames they have followed, parameters by those they have learned from.
            `equal`, or a number for each state. None: `counts` for the mean; the other rules and `robust` believe no
            counts, and weigh all alike.
        robust: Leave out what cannot be used or is out of all proportion, and say so, rather than refuse all.
        clusters: One state for each kind of place.
        network_digest: Of the network that all have to belong to; None: of the one that most belong to.
    """

    rule: str | None = None
    weights: str | Sequence[float] | None = None
    robust: bool = False
    clusters: bool = False
    network_digest: str | None = None


@dataclass(frozen=True)
class MergedGroup:
    """States that were merged.

    Attributes:
        state: What they make.
        members: Their names.
        shares: Of each in the statistics; they sum to 1.
    """

    state: AdaptState
    members: tuple[str, ...]
    shares: tuple[float, ...]


@dataclass(frozen=True)
class Merged:
    """What a merge has made.

    Attributes:
        groups: One, or one for each kind of place, the largest first.
        left_out: Of a robust merge.
        rule: One of `RULES`.
        clusters: How they were divided, in the order of the members of all groups; None: they were not to be.
    """

    groups: tuple[MergedGroup, ...]
    left_out: tuple[LeftOut, ...]
    rule: str
    clusters: Clusters | None = None


def merge(
    states: Sequence[Path | StateSource], options: MergeOptions | None = None, report: Report | None = None
) -> Merged:
    """Merge states of one network.

    Args:
        states: Files, or what was sent. They are read more than once, and never all in memory.
        options: How.
        report: Told how much of the work is done, of how much, and what.

    Returns:
        The same to the last bit in whatever order the states are given.

    Raises:
        UsageError: Nothing to merge, or options that contradict each other.
        InputFileError: A state cannot be used, and the merge is not robust; or none can.
        TransferError: A file was changed meanwhile.
    """
    options = options or MergeOptions()
    rule, given = _checked(options, len(states))
    sources = [as_source(state) for state in states]
    usable, left_out = survey(sources, given, options.network_digest, report)
    if left_out and not options.robust:
        advice = "; --robust leaves such states out" if usable else "; no state can be used: is this the right network?"
        raise InputFileError(f"{left_out[0].why}{_and_more(left_out)}{advice}")
    if options.robust and options.clusters and usable:
        # What is wild would be a kind of its own, and all the rest one; what is far is told in each kind.
        usable, wild, _ = _without_far(usable, None, times=_WILD)
        left_out += wild
    divided = clusters_of([one.state for one in usable]) if options.clusters and usable else None
    labels = np.zeros(len(usable), np.intp) if divided is None else divided.labels
    groups, weigh = [], _weigher(options, rule)
    for label in sorted({*labels.tolist()}):
        members, middle = [one for one, its in zip(usable, labels, strict=True) if its == label], None
        if options.robust:
            members, far, middle = _without_far(members, _MIDDLES.get(rule))
            left_out += far
        if members:
            groups.append(_merged(members, rule, weigh, middle, trusted=not options.robust))
        if report is not None:
            report(label + 1, int(labels.max()) + 1, f"{sum(len(group.members) for group in groups)} states merged")
    if not groups:
        raise InputFileError(f"none of {len(states)} states can be used; the first: {left_out[0].why}")
    if divided is not None:
        divided = _in_order(divided, [one.state.name for one in usable], groups)
    return Merged(tuple(groups), tuple(left_out), rule, divided)


def _without_far(
    usable: Sequence[Surveyed], middle: Middle | None, times: float = 1.0
) -> tuple[list[Surveyed], list[LeftOut], Doubles | None]:
    """Those that are not out of all proportion, those that are, and the middle of all where none is."""
    found = distances([one.state for one in usable], middle)
    far = found.why_far(times)
    left_out = [LeftOut(usable[at].state.name, f"{usable[at].state.name}: {why}") for at, why in far.items()]
    return [one for at, one in enumerate(usable) if at not in far], left_out, None if far else found.middle


def _in_order(divided: Clusters, names: Sequence[str], groups: Sequence[MergedGroup]) -> Clusters:
    """A division in the order of the members of all groups."""
    at = {name: place for place, name in enumerate(names)}
    order = np.array([at[name] for group in groups for name in group.members], np.intp)
    labels = np.repeat(np.arange(len(groups)), [len(group.members) for group in groups])
    return Clusters(labels, divided.silhouette, divided.picture[order])


@dataclass(frozen=True)
class _Weights:
    """Of each state, for its parameters and for its statistics."""

    parameters: Sequence[float]
    statistics: Sequence[float]


_Weigher = Callable[[Sequence[Surveyed]], _Weights]


def _checked(options: MergeOptions, count: int) -> tuple[str, Sequence[float] | None]:
    """The rule, and the weights that were given as numbers."""
    rule = options.rule or ("trimmed-mean" if options.robust else "mean")
    weights = options.weights
    if not count:
        raise UsageError("no states to merge; name at least one")
    if options.clusters:
        require_few(count)
    if rule not in RULES:
        raise UsageError(f"no rule {rule!r}; there are {', '.join(RULES)}")
    if rule != "mean" and weights not in (None, "equal"):
        raise UsageError(f"rule {rule}: all states count alike, so no weights can be given; rule mean takes them")
    if weights is None or isinstance(weights, str):
        if weights not in (None, "equal", "counts"):
            raise UsageError(f"weights {weights!r}: counts, equal, or a number for each state")
        return rule, None
    if sum(weights) > _MOST_FRAMES:
        raise UsageError(f"weights that sum to {sum(weights):g}: at most {_MOST_FRAMES:g}; they count as proportions")
    if len(weights) != count:
        raise UsageError(f"{len(weights)} weights for {count} states; give one for each")
    if not all(np.isfinite(weight) and weight >= 0 for weight in weights) or not any(weights):
        raise UsageError(f"weights {', '.join(f'{weight:g}' for weight in weights)}: 0 or more, and not all 0")
    return rule, weights


def _weigher(options: MergeOptions, rule: str) -> _Weigher:
    trusting = rule == "mean" and not options.robust
    if options.weights == "counts" or (options.weights is None and trusting):
        return _by_counts
    return _as_given  # 1 where nothing was given


def _by_counts(members: Sequence[Surveyed]) -> _Weights:
    counts = [one.state.behind for one in members]
    for one, behind in zip(members, counts, strict=True):
        if behind.followed is None or behind.learned is None:
            raise UsageError(
                f"{one.state.name} does not say how many frames are behind it; merge with equal weights (--weights "
                "equal), or give a weight for each state"
            )
    learned, followed = (
        [float(n or 0) for n in its] for its in zip(*((b.learned, b.followed) for b in counts), strict=True)
    )
    alike = [1.0] * len(members)
    return _Weights(learned if any(learned) else alike, followed if any(followed) else alike)


def _as_given(members: Sequence[Surveyed]) -> _Weights:
    given = [one.weight for one in members]
    given = given if any(given) else [1.0] * len(given)  # a cluster of states that were all given 0
    return _Weights(given, given)


def _merged(
    members: Sequence[Surveyed], rule: str, weigh: _Weigher, middle: Doubles | None, trusted: bool
) -> MergedGroup:
    """Of some states; their `middle` where it is known already."""
    states, weights = [one.state for one in members], weigh(members)
    if rule == "mean":
        vector = _pooled(states, weights)
    else:
        vector = middle_of(states, _MIDDLES[rule]) if middle is None else middle
    with np.errstate(over="ignore"):
        merged = vector.astype(np.float32)
    if not np.isfinite(merged).all():
        raise InputFileError(f"{states[0].name} and others: their numbers are too large to be merged as float32")
    behind = _behind([state.behind for state in states], trusted)
    metadata = {**_common(states), **behind.metadata(), _MERGED_STATES: str(len(states)), _MERGED_BY: rule}
    total = sum(weights.statistics)
    return MergedGroup(
        state=states[0].arrangement.state(merged, states[0].network_digest, metadata),
        members=tuple(state.name for state in states),
        shares=tuple(weight / total for weight in weights.statistics),
    )


def _pooled(states: Sequence[FlatState], weights: _Weights) -> Doubles:
    arrangement = states[0].arrangement
    count, means, variances = arrangement.parameter_count, arrangement.means, arrangement.variances
    parameters, moments = WeightedMean(count), PooledMoments(len(means))
    for state, of_parameters, of_statistics in zip(states, weights.parameters, weights.statistics, strict=True):
        vector = state.vector()
        parameters.add(vector[:count], of_parameters)
        moments.add(vector[means], vector[variances], of_statistics)
    result = np.empty(arrangement.size)
    result[:count], result[means], result[variances] = parameters.value, moments.means, moments.variances
    return result


def _behind(counts: Sequence[FramesBehind], trusted: bool) -> FramesBehind:
    """The frames of all; where counts are not trusted each state counts as the one in the middle does."""

    def total(each: Sequence[int | None]) -> int | None:
        known = [count for count in each if count is not None]
        if len(known) < len(each):
            return None
        return min(sum(known) if trusted else len(known) * sorted(known)[(len(known) - 1) // 2], _MOST_FRAMES)

    return FramesBehind(total([one.followed for one in counts]), total([one.learned for one in counts]))


def _common(states: Sequence[FlatState]) -> dict[str, str]:
    """What all metadata say alike, but for the counts: how the network was warmed up, and on what."""
    common = dict(states[0].metadata)
    for state in states[1:]:
        common = {name: text for name, text in common.items() if state.metadata.get(name) == text}
    counts = FramesBehind(0, 0).metadata()
    return {
        name: text for name, text in common.items() if name not in counts and not name.startswith((_SNAPSHOT, MERGED))
    }


def _and_more(left_out: Sequence[LeftOut]) -> str:
    more = len(left_out) - 1
    return f" (and {more} more state{'s' * (more != 1)} cannot be used)" if more else ""
