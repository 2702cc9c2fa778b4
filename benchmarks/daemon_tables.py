"""The tables of measure_daemon.py for docs/results.md; for render_results.py."""

from collections.abc import Sequence
from typing import Any

__all__ = ["render_daemon"]

WAYS = {
    "paced": "ten frames a second",
    "without a pause": "without a pause",
    "worked": "without a pause, processor time",
}
AGES = "median, 99 %, most; the longest turn"


def render_daemon(report: dict[str, Any]) -> str:
    """What was asked for, and what was found; a column a network."""
    networks = report["networks"]
    found = {name: dict(_rows({part: row["found"] for part, row in parts.items()})) for name, parts in networks.items()}
    rows = [(what, *(one.get(what, "") for one in found.values())) for what in next(iter(found.values()))]
    loads = [row["load"] for parts in networks.values() for row in parts.values()]
    note = (
        f"{report['environment']['cpu']}, one thread of the network, pictures of 640 x 480; other work on the "
        f"machine meanwhile: load {min(loads):.0f} to {max(loads):.0f} on its cores. Alone on a machine a process's "
        "share (PSS) is all that is resident."
    )
    return f"{_table(('', *networks), rows)}\n\n{note}\n"


def _rows(found: dict[str, Any]) -> list[tuple[str, str]]:
    latency, start, memory = found["latency"], found["start"], found["memory"]
    rows = []
    for name, what in WAYS.items():
        one = latency[name]
        rows.append((f"{what}: resizing and the step alone, ms", f"{one['bare_ms']:.1f}"))
        rows.append((f"{what}, by the daemon, ms", f"{one['daemon_ms']:.1f} ({100 * one['added']:+.0f} %)"))
    for one in found["overload"]:
        cameras = "a camera" if one["cameras"] == 1 else f"{one['cameras']} cameras"
        ages = ", ".join(f"{one[name]:.2f}" for name in ("age_median_turns", "age_99_turns", "age_most_turns"))
        ages += f"; {one['longest_turn_turns']:.2f}"
        rows.append((f"{cameras} at five times too many frames each: age of an answered frame in turns, {AGES}", ages))
    for name, cameras in found["isolation"].items():
        shown = ", ".join(f"{one['frames']} in {one['age_ms']:.0f} ms" for one in cameras.values())
        rows.append((f"two cameras at 5 frames a second for 30 s, {name}: answers, median age", shown))
    for name, held in memory.items():
        rows.append((f"{name}: share, resident, MiB", f"{held['pss_mib']:.0f}, {held['rss_mib']:.0f}"))
    firsts = f"{start['first_answer_s']:.2f}, {start['longest_s']:.2f}"
    rows.append(("first answer after the start, median, longest, s", firsts))
    rows.append(("end after SIGTERM, longest, s", f"{start['end_longest_s']:.2f}"))
    return rows


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---", *(["---:"] * (len(header) - 1))], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
