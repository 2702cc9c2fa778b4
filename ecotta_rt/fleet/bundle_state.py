"""What the bundle says of its boards' states: where all of them began, and what of it no board moves.

Norms whose channels tell classes apart are held by every board. A state in which they are others comes from another
warm-up, or from nobody's board, and boards would refuse the merged one. Without the bundle most states tell: two
boards that have followed any frame differ in each norm but those that they hold.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ecotta_rt.bundle import Bundle
from ecotta_rt.fleet.flat import Digests, FlatState, FlatStates
from ecotta_rt.fleet.sources import StateBytes

__all__ = ["BundleState", "of_other_held"]


@dataclass(frozen=True)
class BundleState:
    """A bundle's own state.

    Attributes:
        flat: Its numbers.
        held: Names of the statistics that no board moves.
    """

    flat: FlatState
    held: Collection[str] = ()

    @classmethod
    def of(cls, bundle: Bundle) -> "BundleState":
        """That of a bundle; raises `InputFileError` where its state is damaged."""
        state = bundle.initial_state()
        flat = FlatStates().read(StateBytes(f"the state of {bundle.path}", state.to_bytes()))
        return cls(flat, tuple(bundle.manifest.layout.held_of(state)))


def of_other_held(states: Sequence[FlatState], bundle: BundleState | None) -> dict[int, str]:
    """Which states have other numbers in norms that boards hold.

    Args:
        states: All of one arrangement; with a bundle, of that of its state.
        bundle: Tells which these are; None: those in which more than half of the states that differ at all are equal.

    Returns:
        By place in `states` why they cannot be merged.
    """
    if not states or not (statistics := states[0].arrangement.statistics):
        return {}
    digests = np.stack([state.statistic_digests for state in states])
    if bundle is not None:
        held = np.array([name in bundle.held for name, _ in statistics])
        asked, whose = bundle.flat.statistic_digests, "that of the bundle"
    else:
        held, asked = _held_by_most(digests)
        whose = "that of most states, which all have the same"
    unlike = (digests != asked) & held
    return {
        int(
            place
        ): f"its {statistics[unlike[place].argmax()][0]} is not {whose}: a norm that boards hold, so they would "
        "refuse the merged state; it comes from another warm-up, or from no board"
        for place in np.flatnonzero(unlike.any(axis=1))
    }


def _held_by_most(digests: Digests) -> tuple[NDArray[np.bool_], Digests]:
    """Of each array whether more than half of the states have it alike, bool `[A]`, and its digest there, `[A]`.

    States that are equal in all of their statistics count once: boards that have followed nothing yet tell nothing.
    """
    different = np.unique(digests, axis=0)
    most = [Counter(column.tolist()).most_common(1)[0] for column in different.T]
    digest = np.array([value for value, _ in most], different.dtype)
    return np.array([2 * count > len(different) > 2 for _, count in most]), digest
