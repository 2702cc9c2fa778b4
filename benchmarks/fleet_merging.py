"""States of a trial's boards merged, drawn towards the source, and tried; for measure_fleet.py."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ecotta_rt import AdaptState
from ecotta_rt.fleet.flat import FlatStates
from ecotta_rt.fleet.merge import Merged, merge
from ecotta_rt.fleet.options import MergeOptions
from ecotta_rt.fleet.shrinkage import shrunk
from ecotta_rt.fleet.sources import StateBytes
from fleet_rows import Rows
from fleet_trial import Board, Trial

__all__ = ["SHARES", "add_held", "drawn", "merged", "state_for", "without_spread"]

SHARES = (0.25, 0.5, 0.75)
"""Of the source in a merged state that is drawn towards it."""


def merged(trial: Trial, boards: Sequence[Board], **options: Any) -> Merged:
    """As `ecotta merge` does it, of states whose files are there."""
    for board in boards:
        trial.board_state(board)
    return merge([trial.path(board.name) for board in boards], MergeOptions(**options))


def drawn(merged: AdaptState, source: AdaptState, share: float) -> AdaptState:
    """A merged state with a share of the source."""
    one, other = (FlatStates().read(StateBytes("", state.to_bytes())) for state in (merged, source))
    vector = shrunk(one.vector(), other.vector(), one.arrangement, share).astype(np.float32)
    return one.arrangement.state(vector, merged.network_digest, merged.metadata)


def without_spread(trial: Trial, mean: AdaptState, boards: Sequence[Board]) -> AdaptState:
    """Variances averaged, without the part that comes from boards having different means."""
    states = [trial.board_state(board) for board in boards]
    variances = {
        name: np.mean([state.statistics[name] for state in states], axis=0, dtype=np.float64).astype(np.float32)
        for name in mean.statistics
        if name.endswith(".variance")
    }
    return replace(mean, statistics={**mean.statistics, **variances})


def state_for(parted: Merged, trial: Trial, board: str) -> AdaptState:
    """The state of the group that a board is in."""
    return next(group.state for group in parted.groups if str(trial.path(board)) in group.members)


def add_held(trial: Trial, rows: Rows, name: str, by_domain: Mapping[str, AdaptState]) -> None:
    """A row of a state that is held: its error in each domain, and on how many pictures it differs from the source.

    These are the pairs that a difference from the source is told by: of n pictures, b that only the state gets wrong
    and c that only the source does, it is (b - c) / n, with a standard error of about sqrt(b + c) / n.
    """

    def measured() -> Mapping[str, Any]:
        wrong = {domain: trial.held_wrong(state, domain) for domain, state in by_domain.items()}
        source = {domain: trial.source_wrong(domain) for domain in by_domain}
        return {
            "first_100_percent": {domain: round(100 * float(its[:100].mean()), 2) for domain, its in wrong.items()},
            "errors_percent": {domain: round(100 * float(its.mean()), 2) for domain, its in wrong.items()},
            "only_it_is_wrong": {domain: int((its & ~source[domain]).sum()) for domain, its in wrong.items()},
            "only_source_is_wrong": {domain: int((~its & source[domain]).sum()) for domain, its in wrong.items()},
        }

    rows.add({"way": trial.way, "seed": trial.seed, "measure": "held", "state": name}, measured)
