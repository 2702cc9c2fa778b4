"""The tables of streams for docs/results.md, from files of `ecotta-bench --stream --json`; for render_results.py.

And that of measure_long_run.py.
"""

import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ecotta_rt.bench.streams.report import detail_table, error_table
from ecotta_rt.bench.streams.results import StreamReport, StreamRow, read_report

__all__ = ["render_long_run", "render_streams"]

_LATE = 3  # rounds of each protocol


def render_streams(files: Sequence[Path]) -> str:
    """Two tables a network in Markdown, and under them what they were measured on.

    Without times: long streams are measured beside other work. `ecotta-bench --latency` times methods in turns.
    """
    parts = (_parts(report, rows) for report in map(read_report, files) for rows in report.settings().values())
    return "\n".join(part for one in parts for part in one)


def render_long_run(report: dict[str, Any]) -> str:
    """A line a protocol: its first round, its last ones and the worst, filtered errors beside the network's own."""
    table = [["error, %", "rounds", "first", f"mean of the last {_LATE}", "worst", "process MiB, first", "last"]]
    rounds, about = report["rounds"], report["about"]
    for protocol in dict.fromkeys(each["protocol"] for each in rounds):
        same = [each for each in rounds if each["protocol"] == protocol]
        errors = [[each[f"{answer}_error_percent"] for each in same] for answer in ("unfiltered", "filtered")]
        figures = (
            [found[0] for found in errors],
            [statistics.fmean(found[-_LATE:]) for found in errors],
            [max(found) for found in errors],
        )
        cells = [" / ".join(f"{figure:.1f}" for figure in pair) for pair in figures]
        sizes = [f"{each['rss_mib']:.0f}" for each in (same[0], same[-1])]
        table.append([protocol, str(len(same)), *cells, *sizes])
    played = sum(each["frames"] for each in rounds)
    stream = f"15 corruptions x {about['a_visit']}, severity {about['severity']}"
    note = (
        f"{about['bundle']}; {played:,} frames in {len(rounds)} rounds of {stream}, out of {about['pool']:,} test "
        "images a corruption, in one runtime; unfiltered / filtered. "
        f"The process holds the pictures, too. {about['environment']['cpu']}, onnxruntime "
        f"{about['environment']['versions']['onnxruntime']}."
    )
    return "\n".join([*_markdown(table), "", note, ""])


def _parts(report: StreamReport, rows: Sequence[StreamRow]) -> list[str]:
    return [
        f"**{report.subject.network}** on {report.subject.images}:",
        "",
        *_markdown(error_table(rows, times=False)),
        "",
        *_markdown(detail_table(rows)),
        "",
        _origin(rows),
        "",
    ]


def _markdown(table: list[list[str]]) -> list[str]:
    head, *lines = table
    rule = ["---", *["---:"] * (len(head) - 1)]
    return [f"| {' | '.join(cells).replace('+-', '±')} |" for cells in (head, rule, *lines)]


def _origin(rows: Sequence[StreamRow]) -> str:
    corruptions, frames, severity = rows[0].setting
    return (
        f"{corruptions} corruptions x {frames} frames, severity {severity}, seeds {_list(row.seed for row in rows)}; "
        f"{_list(row.session_options['threads'] for row in rows)} thread; {_list(row.cpu for row in rows)}; "
        f"commits {_list((row.commit or '-')[:7] for row in rows)}."
    )


def _list(values: Iterable[object]) -> str:
    return ", ".join(sorted(set(map(str, values))))
