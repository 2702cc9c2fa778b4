"""What `ecotta state` says, for people and as JSON."""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ecotta_rt.cli.state_location import StateLocation
from ecotta_rt.daemon.saving.kept_states import CameraStates, KeptState
from ecotta_rt.daemon.saving.snapshot_files import is_source
from ecotta_rt.errors import InputFileError, UsageError
from ecotta_rt.fleet.folder import STATE_SUFFIX, states_in
from ecotta_rt.messages import escaped, in_columns
from ecotta_rt.state import MERGED, AdaptState

__all__ = [
    "camera_facts",
    "camera_text",
    "check_text",
    "checked_files",
    "differences_text",
    "file_facts",
    "file_text",
    "files_text",
    "finite",
    "state_text",
]

_COLUMNS = ("", "generation", "written (UTC)", "why", "followed", "learned", "KiB")
_FIGURES = {1, 4, 5, 6}
_KIB = 1024


def camera_facts(states: CameraStates) -> dict[str, Any]:
    """All generations of a camera, newest first; `next` is the one that the next start goes on from."""
    kept = states.all()
    following = next((one.snapshot.generation for one in kept if one.state is not None), None)
    rows = [_row(one) for one in kept]
    return {"camera": states.camera, "folder": str(states.folder), "next": following, "snapshots": rows}


def camera_text(facts: Mapping[str, Any]) -> str:
    """`camera_facts` as a table."""
    rows = facts["snapshots"]
    heading = f"{facts['camera']}: {len(rows)} generation{'s' * (len(rows) != 1)} in {facts['folder']}"
    if not rows:
        return f"{heading}; the next start begins at the source"
    table = in_columns([_COLUMNS, *(_cells(row, facts["next"]) for row in rows)], _FIGURES)
    refused = [f"  generation {row['generation']} cannot be used: {row['refused']}" for row in rows if row["refused"]]
    goes_on = "begins at the source" if facts["next"] is None else "goes on from the one marked *"
    return "\n".join([heading, table, *refused, f"  the next start {goes_on}"])


def file_facts(path: Path) -> dict[str, Any]:
    """Of a single state."""
    facts: dict[str, Any] = {"path": str(path), "bytes": None, "refused": None, "network_digest": None}
    try:
        facts["bytes"] = path.stat().st_size
        state = AdaptState.load(path)
    except OSError as error:
        return {**facts, "refused": f"{path}: cannot be read ({error.strerror or error})"}
    except InputFileError as error:
        return {**facts, "refused": str(error)}
    merged = {name.removeprefix(MERGED): text for name, text in state.metadata.items() if name.startswith(MERGED)}
    return {**facts, "network_digest": state.network_digest, **_behind(state), "merged": merged or None}


def files_text(facts: Sequence[Mapping[str, Any]], names: Iterable[str]) -> str:
    """`file_facts` of a folder's files as a table."""
    rows = [("", "network", "followed", "learned", "KiB")]
    for one, name in zip(facts, names, strict=True):
        counts = () if one["refused"] else (_count(one["frames_followed"]), _count(one["frames_learned"]))
        size = "?" if one["bytes"] is None else f"{one['bytes'] / _KIB:,.0f}"
        rows.append((escaped(name), (one["network_digest"] or "")[:12], *(counts or ("", "")), size))
    refused = [f"  cannot be used: {one['refused']}" for one in facts if one["refused"]]
    count = len(facts)
    heading = f"{count} state{'s' * (count != 1)} of boards, each a file without generations"
    return "\n".join([heading, in_columns(rows, {2, 3, 4}), *refused])


def file_text(facts: Mapping[str, Any]) -> str:
    """`file_facts` in a line."""
    if facts["refused"]:
        return f"a state that cannot be used: {facts['refused']}"
    counts = f"{_count(facts['frames_followed'])} frames followed, {_count(facts['frames_learned'])} learned from"
    merged = facts["merged"]
    of = f", merged of {merged.get('states', '?')} by {merged.get('rule', '?')}" if merged else ""
    return (
        f"{facts['path']}: a valid state of network {facts['network_digest'][:12]}{of}, {counts}, "
        f"{facts['bytes']:,} bytes"
    )


def checked_files(location: StateLocation) -> tuple[list[str], list[dict[str, str]]]:
    """The networks of single states that can be used, and path and reason of those that cannot.

    Raises:
        UsageError: There are no states.
    """
    paths = [location.file] if location.file is not None else list(states_in(location.where).values())
    if not paths:
        raise UsageError(f"{location.where}: no states{location.hint}; single ones are called NAME{STATE_SUFFIX}")
    digests, refused = [], []
    for path in paths:
        try:
            state = AdaptState.load(path)
            location.require_network(state, str(path))
            location.require_held(state, str(path))
            digests.append(state.network_digest)
        except InputFileError as error:
            refused.append({"path": str(path), "why": str(error)})
    return digests, refused


def check_text(facts: Mapping[str, Any]) -> str:
    """What `ecotta state check` found, a line for each that cannot be used."""
    count, networks = facts["checked"], facts["networks"]
    heading = f"{count} state{'s' * (count != 1)} read, {count - len(facts['refused'])} can be used"
    of = f", of network {', '.join(digest[:12] for digest in networks)}" if networks else ""
    return "\n".join([heading + of, *(f"  cannot be used: {one['why']}" for one in facts["refused"])])


def state_text(facts: Mapping[str, Any], why_unknown: str) -> str:
    """What is in a state; and why its distance is not known, where it is not."""
    rows = [
        ("network", facts["network_digest"]),
        ("frames", f"{_count(facts['frames_followed'])} followed, {_count(facts['frames_learned'])} learned from"),
        ("numbers", ", ".join(f"{name} {count:,}" for name, count in facts["numbers"].items())),
        ("filter", _filter(facts["filter"])),
        ("places", _places(facts["places"])),
        ("distance", _distance(facts["distance"], why_unknown)),
        *((f"  {norm}", f"{distance:.3f}") for norm, distance in (facts["distance"] or {}).items()),
    ]
    metadata = [(f"  {name}", _plain(text)) for name, text in facts["metadata"].items()]
    return "\n".join([facts["state"], in_columns([*rows, *([("metadata", "")] if metadata else []), *metadata])])


def differences_text(facts: Mapping[str, Any]) -> str:
    """How far two states are apart."""
    first, second = facts["states"]
    rows = [("part", "arrays", "differ", "largest", "where")]
    for part, found in facts["parts"].items():
        largest = f"{found['largest']:.3g}" if math.isfinite(found["largest"]) else "in one only"
        rows.append((part, str(found["arrays"]), str(found["differ"]), largest, found["where"] or ""))
    return f"{first} against {second}, relative to the larger magnitude\n{in_columns(rows, {1, 2, 3})}"


def finite(facts: Any) -> Any:
    """The same with null for infinity, which JSON does not know."""
    match facts:
        case float():
            return facts if math.isfinite(facts) else None
        case dict():
            return {name: finite(value) for name, value in facts.items()}
        case list():
            return [finite(value) for value in facts]
    return facts


def _row(kept: KeptState) -> dict[str, Any]:
    snapshot = kept.snapshot
    moment = snapshot.time
    return {
        "generation": snapshot.generation,
        "time": f"{moment[:4]}-{moment[4:6]}-{moment[6:11]}:{moment[11:13]}:{moment[13:]}",
        "why": kept.why,
        "source": kept.state is not None and is_source(kept.state),
        "pinned": bool(snapshot.pin),
        "bytes": kept.bytes,
        "network": snapshot.network,
        "refused": kept.refused or None,
        "path": str(snapshot.path),
        **(_behind(kept.state) if kept.state is not None else {"frames_followed": None, "frames_learned": None}),
    }


def _behind(state: AdaptState) -> dict[str, int | None]:
    behind = state.behind
    return {"frames_followed": behind.followed, "frames_learned": behind.learned}


def _cells(row: Mapping[str, Any], following: int | None) -> tuple[str, ...]:
    mark = "*" if row["generation"] == following else "-" if row["refused"] else ""
    why = f"{row['why']}{', the source' * row['source']}{', kept' * row['pinned']}"
    time = row["time"].replace("T", " ").removesuffix("Z")
    counts = [_count(row[name]) if not row["source"] else "" for name in ("frames_followed", "frames_learned")]
    return (mark, str(row["generation"]), time, why, *counts, f"{row['bytes'] / _KIB:,.0f}")


def _count(count: int | None) -> str:
    return "?" if count is None else f"{count:,}"


def _filter(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return "none"
    label = found["label"] or f"class {found['class_index']}"
    evidence = " and ".join(f"{nats:.1f}" for nats in found["evidence_nats"])
    return f"{label} at {found['belief']:.2f}, trust {found['trust']:.2f}, evidence {evidence} nats"


def _places(found: Mapping[str, int] | None) -> str:
    if found is None:
        return "no memory of places"
    changes = f"{found['changes']:,} changes, {found['recalls']:,} of them to a known one"
    return f"{found['known']} known beside the source; {changes}; in this one for {found['stay']:,} frames"


def _plain(text: str) -> str:
    """A note as people read it: `prepare` writes its options as Python does.

    >>> _plain("{'epochs': 10, 'matched_start': True}")
    'epochs: 10, matched_start: True'
    """
    return text[1:-1].replace("'", "") if text.startswith("{'") and text.endswith("}") else text


def _distance(by_norm: Mapping[str, float] | None, why_unknown: str) -> str:
    if by_norm is None:
        return f"not known: {why_unknown}"
    if not by_norm:
        return "no statistics"
    mean = sum(by_norm.values()) / len(by_norm)
    return f"{mean:.3f} standard deviations of the source, mean over {len(by_norm)} norm{'s' * (len(by_norm) != 1)}"
