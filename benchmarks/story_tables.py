"""The table of measure_story.py for docs/results-student.md; for render_results.py."""

import statistics
from collections.abc import Mapping
from typing import Any

__all__ = ["render_story"]

_MIB = 1 << 20
_TITLES = {
    "teacher-own": "teacher, ResNet-56",
    "student": "student, ResNet-20, distilled",
    "alone": "ResNet-20, adapted without a teacher",
    "published": "ResNet-20 as published",
}
_HEADS = (
    *("error %", "in the 4 seen", "in the 11 new", "sorted by class, filtered"),
    *("ms a frame", "learning", "process, MiB", "largest batch that learns"),
)


def render_story(report: Mapping[str, Any]) -> str:
    """A row a network: errors with their spread over seeds, time and memory in the group."""
    lines = [f"| network | {' | '.join(_HEADS)} |", f"| --- |{' ---: |' * len(_HEADS)}"]
    for name, row in report["rows"].items():
        shuffled = row["errors"]["continual, unfiltered"].values()
        ordered = row["errors"]["sorted, filtered"].values()
        cells = [
            *(_spread([each[part] for each in shuffled]) for part in ("all", "seen", "new")),
            _spread([each["all"] for each in ordered]),
            *(f"{row['ms_per_frame'][way]:.1f}" for way in ("follows", "learns")),
            f"{row['process_peak_bytes'] / _MIB:.0f}",
            _largest_batch(row["batches"]),
        ]
        lines.append(f"| {' | '.join([_TITLES.get(name, name), *cells])} |")
    return "\n".join([*lines, "", _note(report), ""])


def _largest_batch(batches: Mapping[str, Any]) -> str:
    """The last that ran, and what became of the next."""
    whole = [size for size, tried in batches.items() if not tried["killed"] and not tried["exit"]]
    killed = [size for size in batches if size not in whole]
    largest = max(whole, key=int)
    peak = batches[largest]["group_peak_bytes"] / _MIB
    return f"{largest} ({peak:.0f} MiB{f'; {killed[0]} is killed' if killed else ''})"


def _spread(values: list[float]) -> str:
    return f"{statistics.mean(values):.1f} ± {statistics.stdev(values):.1f}"


def _note(report: Mapping[str, Any]) -> str:
    about, first = report["about"], next(iter(report["rows"].values()))
    environment = first["environment"]
    seeds = ", ".join(first["errors"]["continual, unfiltered"])
    return (
        f"Mean ± standard deviation over the streams' seeds {seeds}, 15 corruptions x 200 test images, severity 5, "
        f"unfiltered answers but in the column that says so, one frame at a time. Seen: {', '.join(about['seen'])}. "
        f"Batches: `ecotta run` over {about['frames']} frames of fog in a memory control group of "
        f"{about['limit_bytes'] / 1e6:.0f} MB ({about['limit_bytes'] / _MIB:.0f} MiB). Time: of the "
        f"processor, turn by turn. Process: its peak while a stream is played. {environment['cpu']}, onnxruntime "
        f"{environment['versions']['onnxruntime']}, Python {environment['versions']['python']}."
    )
