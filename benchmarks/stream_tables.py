"""The tables of streams for docs/results.md, from files of `ecotta-bench --stream --json`; for render_results.py."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from ecotta_rt.bench.streams.report import detail_table, error_table
from ecotta_rt.bench.streams.results import StreamReport, StreamRow, read_report

__all__ = ["render_streams"]


def render_streams(files: Sequence[Path]) -> str:
    """Two tables a network in Markdown, and under them what they were measured on."""
    return "\n".join(part for report in map(read_report, files) for part in _parts(report))


def _parts(report: StreamReport) -> list[str]:
    return [
        f"**{report.subject.network}** on {report.subject.images}:",
        "",
        *_markdown(error_table(report.rows)),
        "",
        *_markdown(detail_table(report.rows)),
        "",
        _origin(report.rows),
        "",
    ]


def _markdown(table: list[list[str]]) -> list[str]:
    head, *lines = table
    rule = ["---", *["---:"] * (len(head) - 1)]
    return [f"| {' | '.join(cells).replace('+-', '±')} |" for cells in (head, rule, *lines)]


def _origin(rows: Sequence[StreamRow]) -> str:
    each = sorted({(row.corruptions, row.frames_each, row.severity) for row in rows})
    sizes = " and ".join(
        f"{corruptions} corruptions x {frames} frames, severity {s}" for corruptions, frames, s in each
    )
    return (
        f"{sizes}, seeds {_list(row.seed for row in rows)}; {_list(row.session_options['threads'] for row in rows)} "
        f"thread; {_list(row.cpu for row in rows)}; commits {_list((row.commit or '-')[:7] for row in rows)}."
    )


def _list(values: Iterable[object]) -> str:
    return ", ".join(sorted(set(map(str, values))))
