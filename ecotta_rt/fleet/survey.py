"""Read every state once: which can be merged, and in which order.

States are taken in the order of the digests of their numbers, whatever they are called and however they were named: so
the same states give the same merged one, to the last bit, on a command line and in a server that was sent them.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from ecotta_rt.errors import InputFileError
from ecotta_rt.fleet.bundle_state import BundleState, of_other_held
from ecotta_rt.fleet.flat import Arrangement, FlatState, FlatStates
from ecotta_rt.fleet.sources import StateSource

__all__ = ["LeftOut", "Surveyed", "survey"]

Report = Callable[[int, int, str], None]

_MOST_TIMES = 10.0
"""A state so many times the size of the others would be much of what is left of them in a mean. Those of boards in
different places differed by a tenth (benchmarks/measure_fleet.py)."""

Refusals = Callable[[Sequence[FlatState]], dict[int, str]]


@dataclass(frozen=True)
class LeftOut:
    """A state that is not merged.

    Attributes:
        name: Its source's.
        why: A sentence that begins with the name.
    """

    name: str
    why: str


@dataclass(frozen=True)
class Surveyed:
    """A state that can be merged.

    Attributes:
        state: Its numbers.
        weight: As it was given; 1 where none was.
    """

    state: FlatState
    weight: float


def survey(
    sources: Sequence[StateSource],
    weights: Sequence[float] | None = None,
    network_digest: str | None = None,
    report: Report | None = None,
    bundle: BundleState | None = None,
) -> tuple[list[Surveyed], list[LeftOut]]:
    """Read and check them all.

    Args:
        sources: Each a state.
        weights: Of each; None: 1.
        network_digest: Of the network that they have to belong to; None: of the one that most belong to.
        report: Told how many are read, of how many, and how that is to be called.
        bundle: Of that network; None: what most states have tells what boards hold.

    Returns:
        Those that can be merged, in the order of their digests, and those that cannot: not to be read, of another
        network, of another arrangement, with other numbers in norms that boards hold, or of a size out of all
        proportion.

    Raises:
        InputFileError: As many belong to one network as to another, and it is not said which is meant.
    """
    reader, found, left_out = FlatStates(), [], []
    for place, source in enumerate(sources):
        try:
            found.append(Surveyed(reader.read(source), 1.0 if weights is None else weights[place]))
        except InputFileError as error:
            left_out.append(LeftOut(source.name, str(error)))
        if report is not None:
            report(place + 1, len(sources), f"{place + 1} of {len(sources)} states read")
    every: tuple[Refusals, ...] = (
        _of_other_networks(network_digest if bundle is None else bundle.flat.network_digest),
        partial(_of_other_arrangements, bundle=bundle),
        partial(of_other_held, bundle=bundle),
        _of_unusual_size,
    )
    for refusals in every:
        why = refusals([one.state for one in found])
        left_out += [
            LeftOut(found[place].state.name, f"{found[place].state.name}: {text}") for place, text in why.items()
        ]
        found = [one for place, one in enumerate(found) if place not in why]
    return sorted(found, key=_place), left_out


def _place(one: Surveyed) -> tuple[bytes, int, int, float, str]:
    """By all that counts in a merge, so that the same states come in the same order, and then by name."""
    behind = one.state.behind
    return one.state.digest, behind.followed or -1, behind.learned or -1, one.weight, one.state.name


def _of_other_networks(network_digest: str | None) -> Refusals:
    def refusals(states: Sequence[FlatState]) -> dict[int, str]:
        counted = Counter(state.network_digest for state in states).most_common(2)
        if network_digest is None and len(counted) == 2 and counted[0][1] == counted[1][1]:
            one, other = (next(s for s in states if s.network_digest == digest) for digest, _ in counted)
            raise InputFileError(
                f"{other.name}: belongs to network {other.network_digest[:12]}, {one.name} to "
                f"{one.network_digest[:12]}, and as many states to one as to the other; name the bundle (--bundle)"
            )
        asked = network_digest or (counted[0][0] if counted else "")
        of_whom = "not to that of the bundle" if network_digest else "most others to"
        return {
            place: f"belongs to network {state.network_digest[:12]}, {of_whom} {asked[:12]}"
            for place, state in enumerate(states)
            if state.network_digest != asked
        }

    return refusals


def _of_other_arrangements(states: Sequence[FlatState], bundle: BundleState | None) -> dict[int, str]:
    """A digest is a claim: states of one network have the same arrays."""
    if bundle is not None:
        why = "its arrays are not those of the bundle"
        return {place: why for place, state in enumerate(states) if state.arrangement != bundle.flat.arrangement}
    digests: dict[Arrangement, list[bytes]] = {}
    for state in states:
        digests.setdefault(state.arrangement, []).append(state.digest)
    # Where as many have one as the other, the digests decide: the same in whatever order.
    most = max(digests, key=lambda one: (len(digests[one]), min(digests[one])), default=None)
    return {
        place: "its arrays are not those of most states of this network"
        for place, state in enumerate(states)
        if state.arrangement != most
    }


def _of_unusual_size(states: Sequence[FlatState]) -> dict[int, str]:
    """Those of which parameters or statistics are larger than the others' out of all proportion."""
    found: dict[int, str] = {}
    for part, what in enumerate(("parameters", "statistics")):
        sizes = np.array([state.magnitudes[part] for state in states])
        usual = float(np.sort(sizes)[(len(sizes) - 1) // 2]) if sizes.size else 0.0
        for place in np.flatnonzero(sizes > _MOST_TIMES * usual):
            why = f"its {what} are {sizes[place]:.3g} in size, those of others {usual:.3g}: out of all proportion"
            found.setdefault(int(place), why)
    return found
