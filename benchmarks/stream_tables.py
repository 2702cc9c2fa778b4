"""The tables of streams for docs/results.md, from files of `ecotta-bench --stream --json`; for render_results.py."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from ecotta_rt.bench.streams.report import detail_table, error_table
from ecotta_rt.bench.streams.results import StreamReport, StreamRow, read_report

__all__ = ["render_streams"]


def render_streams(files: Sequence[Path]) -> str:
    """Two tables a network in Markdown, and under them what they were measured on.

    Without times: long streams are measured beside other work. `ecotta-bench --latency` times methods in turns.
    """
    parts = (_parts(report, rows) for report in map(read_report, files) for rows in report.settings().values())
    return "\n".join(part for one in parts for part in one)


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
