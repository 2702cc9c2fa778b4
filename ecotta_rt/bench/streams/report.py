"""Tables of streams: protocol by method, mean and spread over seeds, with cost and memory beside it."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TextIO

from ecotta_rt.bench.results import Failure
from ecotta_rt.bench.streams.figures import Errors
from ecotta_rt.bench.streams.protocols import PROTOCOLS
from ecotta_rt.bench.streams.results import StreamReport, StreamRow
from ecotta_rt.messages import in_columns, show

__all__ = ["DETAILS", "answers_of", "detail_table", "error_table", "print_streams"]

_MIB = 2**20

_TIMES = ("x forward", "ms/frame")
_MEMORY = ("activations MiB", "process MiB")

_LEGEND = (
    "error: in 100 valid frames, mean +- standard deviation over seeds; (n): so many seeds, where others have more",
    "x forward: a step over the fastest inference-only forward of the same batch, timed in the same process, median; "
    "activations: kept for a backward; process: peak while the stream ran, the largest",
)

Figure = Callable[[Errors], float | None]

DETAILS: Mapping[str, tuple[str, Figure]] = MappingProxyType(
    {
        "continual: first 50": ("continual", lambda errors: errors.after_change.first_50),
        "first 100": ("continual", lambda errors: errors.after_change.first_100),
        "practical: first 100": ("practical", lambda errors: errors.after_change.first_100),
        "sudden: visit 1": ("sudden", lambda errors: _visit(errors, "1")),
        "visit 2 on": ("sudden", lambda errors: _later_visits(errors)),
        "recurring: visit 1": ("recurring", lambda errors: _visit(errors, "1")),
        "visit 20": ("recurring", lambda errors: _visit(errors, "20")),
        "one class: during": ("one-class", lambda errors: _part(errors, "one class")),
        "100 after": ("one-class", lambda errors: _first_100(errors, "at random after")),
        "clean: between": ("clean", lambda errors: _part(errors, "clean between")),
        "at the end": ("clean", lambda errors: _part(errors, "clean after")),
    }
)
"""Title -> protocol and figure: what a mean over the whole stream does not show."""


def print_streams(report: StreamReport, failures: Sequence[Failure], file: TextIO) -> None:
    """Print tables of all rows, as plain text."""
    show(f"{report.subject.network} on {report.subject.images}", file)
    for (corruptions, frames, severity), rows in report.settings().items():
        show(f"\n{corruptions} corruptions x {frames} frames, severity {severity}", file)
        for table in (error_table(rows), detail_table(rows)):
            print(f"\n{in_columns(table, set(range(1, len(table[0]))))}", file=file)
        show("", file)
    for failure in failures:
        show(f"{failure.method}: no result: {failure.message}", file)
    for line in _LEGEND if report.rows else ():
        show(line, file)


def error_table(rows: Sequence[StreamRow], *, times: bool = True) -> list[list[str]]:
    """A head and a line a method and answer: its error in each protocol, and its costs.

    Args:
        rows: At least one.
        times: Whether costs are times too, or memory alone: those of a busy machine say nothing.
    """
    protocols = [name for name in PROTOCOLS if any(row.protocol == name for row in rows)]
    return _table(rows, {name: (name, _whole) for name in protocols}, (_TIMES if times else ()) + _MEMORY)


def detail_table(rows: Sequence[StreamRow]) -> list[list[str]]:
    """The same of `DETAILS`, as far as there are rows for them."""
    there = {row.protocol for row in rows}
    return _table(rows, {title: which for title, which in DETAILS.items() if which[0] in there}, ())


def answers_of(rows: Sequence[StreamRow]) -> dict[str, list[tuple[StreamRow, Errors]]]:
    """Label and answer -> its rows, in the order of the rows; an answer that is not the network's own is named."""
    found: dict[str, list[tuple[StreamRow, Errors]]] = {}
    for row in rows:
        for name, errors in row.answers.items():
            title = row.label if name == "unfiltered" else f"{row.label} {name}"
            found.setdefault(title, []).append((row, errors))
    return found


def _costs(rows: Sequence[StreamRow]) -> dict[str, str]:
    """What the rows of one method cost: two times, and two sizes."""
    forward = statistics.median(row.ms_per_frame / row.forward_ms_per_frame for row in rows)
    milliseconds = statistics.median(row.ms_per_frame for row in rows)
    activations = max(row.activation_bytes for row in rows) / _MIB
    process = max(row.process_peak_bytes for row in rows) / _MIB
    cells = [f"{forward:.2f}", f"{milliseconds:.2f}", f"{activations:.1f}", f"{process:.0f}"]
    return dict(zip(_TIMES + _MEMORY, cells, strict=True))


def _table(
    rows: Sequence[StreamRow], columns: Mapping[str, tuple[str, Figure]], costs: Sequence[str]
) -> list[list[str]]:
    seeds = {name: len({row.seed for row in rows if row.protocol == name}) for name in PROTOCOLS}
    lines = [["error, %", *columns, *costs]]
    for title, found in answers_of(rows).items():
        cells = [
            _cell([figure(errors) for row, errors in found if row.protocol == protocol], seeds[protocol])
            for protocol, figure in columns.values()
        ]
        cost = _costs([row for row, _ in found])
        lines.append([title, *cells, *(cost[name] for name in costs)])
    return lines


def _cell(values: Sequence[float | None], seeds: int) -> str:
    there = [value for value in values if value is not None]
    if not there:
        return "-"
    spread = f" +- {statistics.stdev(there):.1f}" if len(there) > 1 else ""
    return f"{statistics.fmean(there):.1f}{spread}" + (f" ({len(there)})" if len(there) < seeds else "")


def _whole(errors: Errors) -> float:
    return errors.error_percent


def _visit(errors: Errors, number: str) -> float | None:
    return errors.by_visit[number].error_percent if number in errors.by_visit else None


def _later_visits(errors: Errors) -> float | None:
    later = [group for number, group in errors.by_visit.items() if number != "1"]
    frames = sum(group.frames for group in later)
    return sum(group.error_percent * group.frames for group in later) / frames if frames else None


def _part(errors: Errors, name: str) -> float | None:
    return errors.by_part[name].error_percent if name in errors.by_part else None


def _first_100(errors: Errors, name: str) -> float | None:
    return errors.by_part[name].first_100 if name in errors.by_part else None
