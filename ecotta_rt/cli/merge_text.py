"""What `ecotta merge` says of states, for people and as JSON."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ecotta_rt.fleet.merge import SOURCE_SHARE, Merged, MergedGroup
from ecotta_rt.messages import in_columns

__all__ = ["merge_facts", "merge_text"]

_SHOWN = 24


def merge_facts(merged: Merged, paths: Sequence[Path]) -> dict[str, Any]:
    """For `--json`."""
    groups = [
        {
            "path": str(path),
            "frames_followed": group.state.behind.followed,
            "frames_learned": group.state.behind.learned,
            "members": [
                {"name": name, "share": share} for name, share in sorted(zip(group.members, group.shares, strict=True))
            ],
        }
        for path, group in zip(paths, merged.groups, strict=True)
    ]
    return {
        "network_digest": merged.groups[0].state.network_digest,
        "rule": merged.rule,
        "source_share": float(merged.groups[0].state.metadata.get(SOURCE_SHARE, 0)),
        "silhouette": None if merged.clusters is None else merged.clusters.silhouette,
        "groups": groups,
        "left_out": [{"name": one.name, "why": one.why} for one in merged.left_out],
    }


def merge_text(merged: Merged, paths: Sequence[Path], by_hand: bool, asked: bool) -> str:
    """For people.

    Args:
        merged: What was made.
        paths: Where each of its states is.
        by_hand: Whether weights were given, so that shares are to be told.
        asked: Whether it was said how many kinds of place there are to be.
    """
    rows: list[Sequence[str]] = [("", "states", "followed", "learned", "largest share of the boards")]
    rows += [_row(path, group) for path, group in zip(paths, merged.groups, strict=True)]
    count = sum(len(group.members) for group in merged.groups)
    digest = merged.groups[0].state.network_digest[:12]
    heading = f"{count} state{'s' * (count != 1)} of network {digest} merged by {merged.rule}"
    if merged.clusters is not None:
        kinds = len(merged.groups)
        heading += f", {kinds} kinds of place" if kinds > 1 else ", one kind of place"
        best = "" if asked else "best division: "
        heading += f" ({best}silhouette {merged.clusters.silhouette:.2f})"
    share = merged.groups[0].state.metadata.get(SOURCE_SHARE)
    heading += f", {100 * float(share):g} % of it the source and the rest of the boards" if share else ""
    left_out = len(merged.left_out)
    heading += f"; {left_out} left out" if left_out else ""
    text = f"{heading}\n{in_columns(rows, right={1, 2, 3, 4})}"
    if len(merged.groups) > 1 or by_hand:
        text += "".join(f"\n{path}: {_members(group)}" for path, group in zip(paths, merged.groups, strict=True))
    return text


def _members(group: MergedGroup) -> str:
    """Names and shares, the first dozens."""
    named = sorted(zip(group.members, group.shares, strict=True))
    more = f" and {len(named) - _SHOWN} more, see --json" if len(named) > _SHOWN else ""
    return ", ".join(f"{name} ({100 * share:.3g} %)" for name, share in named[:_SHOWN]) + more


def _row(path: Path, group: MergedGroup) -> tuple[str, ...]:
    behind = group.state.behind
    counts = ("?" if count is None else f"{count:,}" for count in (behind.followed, behind.learned))
    return (str(path), f"{len(group.members):,}", *counts, f"{100 * max(group.shares):.3g} %")
