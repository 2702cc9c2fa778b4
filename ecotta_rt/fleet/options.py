"""How states are to be merged, and which options cannot be meant together."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ecotta_rt.errors import UsageError
from ecotta_rt.fleet.bundle_state import BundleState
from ecotta_rt.fleet.clusters import require_few

__all__ = ["MOST_FRAMES", "RULES", "MergeOptions", "checked"]

RULES = ("mean", "median", "trimmed-mean", "clipped-mean")
MOST_FRAMES = 10**18  # more are not read back


@dataclass(frozen=True)
class MergeOptions:
    """How to merge.

    Attributes:
        rule: `mean` pools linearly, the others hold against a few hostile states; None: the mean, or the clipped mean
            with `robust`.
        weights: `counts`: statistics by the frames they have followed, parameters by those they have learned from.
            `equal`, or a number for each state. None: `counts` for the mean; the other rules and `robust` believe no
            counts, and weigh all alike.
        robust: Leave out what cannot be used or is out of all proportion, and say so, rather than refuse all.
        clusters: One state for each kind of place; a number gives how many, else they are found.
        network_digest: Of the network that all have to belong to; None: of the one that most belong to.
        bundle: In place of it the state of that network's bundle: then it is known what boards hold.
        source_share: In [0, 1), of the bundle's own state in what is merged, see `shrinkage`; it needs `bundle`.
        most_left_out: In [0, 1]: a robust merge that leaves out a larger share of the states is refused.
    """

    rule: str | None = None
    weights: str | Sequence[float] | None = None
    robust: bool = False
    clusters: bool | int = False
    network_digest: str | None = None
    bundle: BundleState | None = None
    source_share: float = 0.0
    most_left_out: float = 0.5


def checked(options: MergeOptions, count: int) -> tuple[str, Sequence[float] | None]:
    """The rule of a merge of so many states, and the weights that were given as numbers.

    Raises:
        UsageError: Nothing to merge, or options that contradict each other.
    """
    rule = options.rule or ("clipped-mean" if options.robust else "mean")
    weights = options.weights
    if not count:
        raise UsageError("no states to merge; name at least one")
    if options.clusters:
        require_few(count)
    if not isinstance(options.clusters, bool) and not 2 <= options.clusters <= count:
        raise UsageError(
            f"{options.clusters} kinds of place of {count} states: give 2 or more, and at most one a state"
        )
    if not 0 <= options.source_share < 1:
        raise UsageError(f"a source's share of {options.source_share:g}: 0 or more, and less than 1")
    if options.source_share and options.bundle is None:
        raise UsageError("a share of the source needs the bundle (--bundle): the source is its own state")
    if not 0 <= options.most_left_out <= 1:
        raise UsageError(f"a share of {options.most_left_out:g} left out at most: 0 to 1")
    if rule not in RULES:
        raise UsageError(f"no rule {rule!r}; there are {', '.join(RULES)}")
    if rule != "mean" and weights not in (None, "equal"):
        raise UsageError(f"rule {rule}: all states count alike, so no weights can be given; rule mean takes them")
    if weights is None or isinstance(weights, str):
        if weights not in (None, "equal", "counts"):
            raise UsageError(f"weights {weights!r}: counts, equal, or a number for each state")
        return rule, None
    if sum(weights) > MOST_FRAMES:
        raise UsageError(f"weights that sum to {sum(weights):g}: at most {MOST_FRAMES:g}; they count as proportions")
    if len(weights) != count:
        raise UsageError(f"{len(weights)} weights for {count} states; give one for each")
    if not all(np.isfinite(weight) and weight >= 0 for weight in weights) or not any(weights):
        raise UsageError(f"weights {', '.join(f'{weight:g}' for weight in weights)}: 0 or more, and not all 0")
    return rule, weights
