"""Tables of streams for people: protocol by method, mean and spread over seeds, with cost and memory beside it."""

import statistics
from collections.abc import Callable, Sequence
from typing import TextIO

from ecotta_rt.bench.results import Failure
from ecotta_rt.bench.streams.figures import Errors
from ecotta_rt.bench.streams.protocols import PROTOCOLS
from ecotta_rt.bench.streams.results import StreamReport, StreamRow
from ecotta_rt.messages import in_columns, show

__all__ = ["answers_of", "mean_and_spread", "print_streams"]

_MIB = 2**20

_LEGEND = (
    "error in % of valid frames, mean +- standard deviation over seeds; (n): so many seeds where others have more",
    "x forward: a step over the fastest inference-only forward of the same batch and engine; activations: kept for a "
    "backward; process: peak while the stream ran; all of the first protocol in the table that the method has played",
)


def print_streams(report: StreamReport, failures: Sequence[Failure], file: TextIO) -> None:
    """Print tables of all rows, as plain text."""
    show(f"{report.subject.network} on {report.subject.images}", file)
    if report.rows:
        show(_table(report.rows, "error", lambda errors: errors.error_percent), file)
        show(_table(report.rows, "first 100 after a change", lambda errors: errors.after_change.first_100), file)
    for failure in failures:
        show(f"{failure.method}: no result: {failure.message}", file)
    for line in _LEGEND if report.rows else ():
        show(line, file)


def answers_of(rows: Sequence[StreamRow]) -> dict[str, list[tuple[StreamRow, Errors]]]:
    """Label and answer -> its rows, in the order of the rows; the answer is named where a method has several."""
    found: dict[str, list[tuple[StreamRow, Errors]]] = {}
    for row in rows:
        for name, errors in row.answers.items():
            title = row.label if len(row.answers) == 1 else f"{row.label} {name}"
            found.setdefault(title, []).append((row, errors))
    return found


def mean_and_spread(values: Sequence[float]) -> str:
    """`21.3 +- 0.4`, or the value of a single seed."""
    mean = f"{statistics.fmean(values):.1f}"
    return mean if len(values) == 1 else f"{mean} +- {statistics.stdev(values):.1f}"


def _table(rows: Sequence[StreamRow], what: str, figure: Callable[[Errors], float]) -> str:
    protocols = [name for name in PROTOCOLS if any(row.protocol == name for row in rows)]
    seeds = {name: len({row.seed for row in rows if row.protocol == name}) for name in protocols}
    lines = [[what, *protocols, "x forward", "ms/frame", "activations MiB", "process MiB"]]
    for title, found in answers_of(rows).items():
        cells = []
        for name in protocols:
            values = [figure(errors) for row, errors in found if row.protocol == name]
            few = f" ({len(values)})" if 0 < len(values) < seeds[name] else ""
            cells.append(f"{mean_and_spread(values)}{few}" if values else "-")
        lines.append([title, *cells, *_costs([row for row, _ in found])])
    return f"\n{in_columns(lines, set(range(1, len(lines[0]))))}\n"


def _costs(rows: Sequence[StreamRow]) -> tuple[str, ...]:
    first = min(rows, key=lambda row: list(PROTOCOLS).index(row.protocol)).protocol
    rows = [row for row in rows if row.protocol == first]
    forward = statistics.median(row.ms_per_frame / row.forward_ms_per_frame for row in rows)
    time = statistics.median(row.ms_per_frame for row in rows)
    activations, process = (
        max(sizes) / _MIB for sizes in zip(*((r.activation_bytes, r.process_peak_bytes) for r in rows), strict=True)
    )
    return f"{forward:.2f}", f"{time:.2f}", f"{activations:.1f}", f"{process:.0f}"
