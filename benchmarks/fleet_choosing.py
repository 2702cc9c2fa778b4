"""How much of the source to merge in: chosen on other corruptions and other images than those of the test."""

from collections.abc import Sequence

from fleet_merging import SHARES, add_held, drawn, merged
from fleet_rows import Rows
from fleet_trial import CHOOSING, CLEAN, Board, Trial

__all__ = ["SEEDS", "add_shares", "choose_share"]

SEEDS = (100, 101, 102)


def choose_share(trial: Trial, rows: Rows) -> None:
    """Merged states with other shares of the source, everywhere."""
    add_shares(trial, rows, CHOOSING)


def add_shares(trial: Trial, rows: Rows, boards: Sequence[Board]) -> None:
    """A row of the source, one of the merged state, and one of each share between them."""
    source, mean = trial.source, merged(trial, boards).groups[0].state
    states = {"source": source, "mean": mean, **{f"source {share}": drawn(mean, source, share) for share in SHARES}}
    for name, state in states.items():
        add_held(trial, rows, name, dict.fromkeys((*(board.domain for board in boards), CLEAN), state))
