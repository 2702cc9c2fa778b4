"""Merge the states of a fleet: into one for all, or into one for each kind of place.

    merged = merge([Path("door.state.safetensors"), StateBytes("yard", sent)], MergeOptions(robust=True))
    merged.groups[0].state.save("all.state.safetensors")

Momentum begins anew in a merged state, and so does what a run remembers of its stream (filter, places). It counts the
frames of all: so merged states can be merged; but one that was drawn towards the source has it in it already.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ecotta_rt.errors import InputFileError, UsageError
from ecotta_rt.fleet.clipping import clipped_mean
from ecotta_rt.fleet.clusters import Clusters, clusters_of
from ecotta_rt.fleet.flat import FlatState
from ecotta_rt.fleet.options import MOST_FRAMES, MergeOptions, checked
from ecotta_rt.fleet.pooling import PooledMoments, WeightedMean
from ecotta_rt.fleet.robust import Distances, Middle, distances, median, middle_of, trimmed_mean
from ecotta_rt.fleet.shrinkage import shrunk
from ecotta_rt.fleet.sources import StateSource, as_source
from ecotta_rt.fleet.survey import LeftOut, Surveyed, survey
from ecotta_rt.state import MERGED, AdaptState, FramesBehind

__all__ = ["SOURCE_SHARE", "Merged", "MergedGroup", "merge"]

Doubles = NDArray[np.float64]
Report = Callable[[int, int, str], None]

_MIDDLES = {"median": median, "trimmed-mean": trimmed_mean}
_WILD = 10.0
"""Times what is out of all proportion: so far from all kinds of places that it is none of them."""

SOURCE_SHARE = f"{MERGED}source_share"
"""Metadata of a merged state that was drawn towards the source."""

_MERGED_STATES, _MERGED_BY = f"{MERGED}states", f"{MERGED}rule"
_SNAPSHOT = "snapshot."  # what a daemon says of a file, and not of what is in it


@dataclass(frozen=True)
class MergedGroup:
    """States that were merged.

    Attributes:
        state: What they make.
        members: Their names.
        shares: The weight of each in the statistics, before it is clipped or trimmed, and before a share of the source
            is counted in; they sum to 1.
        drawn: Names of members that are merged states themselves, drawn towards the source.
    """

    state: AdaptState
    members: tuple[str, ...]
    shares: tuple[float, ...]
    drawn: tuple[str, ...] = ()


@dataclass(frozen=True)
class Merged:
    """What a merge has made.

    Attributes:
        groups: One, or one for each kind of place, the largest first.
        left_out: Of a robust merge.
        rule: One of `options.RULES`.
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
        InputFileError: A state cannot be used, and the merge is not robust; or none can, or too few.
        TransferError: A file was changed meanwhile.
    """
    options = options or MergeOptions()
    rule, given = checked(options, len(states))
    sources = [as_source(state) for state in states]
    usable, left_out = survey(sources, given, options.network_digest, report, options.bundle)
    if left_out and not options.robust:
        advice = "; --robust leaves such states out" if usable else "; no state can be used: is this the right network?"
        raise InputFileError(f"{left_out[0].why}{_and_more(left_out)}{advice}")
    if options.robust and options.clusters and usable:
        # What is wild would be a kind of its own, and all the rest one; what is far is told in each kind.
        usable, wild, _ = _without_far(usable, None, times=_WILD)
        left_out += wild
    count = None if isinstance(options.clusters, bool) else options.clusters
    divided = clusters_of([one.state for one in usable], count) if options.clusters and usable else None
    labels = np.zeros(len(usable), np.intp) if divided is None else divided.labels
    groups, weigh = [], _weigher(options, rule)
    for label in sorted({*labels.tolist()}):
        members, found = [one for one, its in zip(usable, labels, strict=True) if its == label], None
        if options.robust:
            members, far, found = _without_far(members, _MIDDLES.get(rule))
            left_out += far
        if members:
            groups.append(_merged(members, rule, weigh, found, options))
        if report is not None:
            report(label + 1, int(labels.max()) + 1, f"{sum(len(group.members) for group in groups)} states merged")
    if not groups:
        raise InputFileError(f"none of {len(states)} states can be used; the first: {left_out[0].why}")
    if len(left_out) > round(options.most_left_out * len(states), 6):  # 0.29 of 100 are 29, and not 28.999
        raise InputFileError(
            f"{len(left_out)} of {len(states)} states would be left out, more than {options.most_left_out:.0%} "
            f"(--most-left-out); the first: {left_out[0].why}"
        )
    if divided is not None:
        divided = _in_order(divided, [one.state.name for one in usable], groups)
    return Merged(tuple(groups), tuple(left_out), rule, divided)


def _without_far(
    usable: Sequence[Surveyed], middle: Middle | None, times: float = 1.0
) -> tuple[list[Surveyed], list[LeftOut], Distances | None]:
    """Those that are not out of all proportion, those that are, and the distances of all where none is."""
    found = distances([one.state for one in usable], middle)
    far = found.why_far(times)
    left_out = [LeftOut(usable[at].state.name, f"{usable[at].state.name}: {why}") for at, why in far.items()]
    return [one for at, one in enumerate(usable) if at not in far], left_out, None if far else found


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
    members: Sequence[Surveyed], rule: str, weigh: _Weigher, found: Distances | None, options: MergeOptions
) -> MergedGroup:
    """Of some states; their distances where these are known already."""
    states, weights = [one.state for one in members], weigh(members)
    if rule == "mean":
        vector = _pooled(states, weights)
    elif rule == "clipped-mean":
        vector = clipped_mean(states, found)
    elif found is not None and found.middle is not None:
        vector = found.middle
    else:
        vector = middle_of(states, _MIDDLES[rule])
    if options.bundle is not None and options.source_share:
        vector = shrunk(vector, options.bundle.flat.vector(), states[0].arrangement, options.source_share)
    with np.errstate(over="ignore"):
        merged = vector.astype(np.float32)
    if not np.isfinite(merged).all():
        raise InputFileError(f"{states[0].name} and others: their numbers are too large to be merged as float32")
    behind = _behind([state.behind for state in states], trusted=not options.robust)
    metadata = {**_common(states), **behind.metadata(), _MERGED_STATES: str(len(states)), _MERGED_BY: rule}
    if options.source_share:
        metadata[SOURCE_SHARE] = f"{options.source_share:g}"
    total = sum(weights.statistics)
    return MergedGroup(
        state=states[0].arrangement.state(merged, states[0].network_digest, metadata),
        members=tuple(state.name for state in states),
        shares=tuple(weight / total for weight in weights.statistics),
        drawn=tuple(state.name for state in states if SOURCE_SHARE in state.metadata),
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
        return min(sum(known) if trusted else len(known) * sorted(known)[(len(known) - 1) // 2], MOST_FRAMES)

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
