"""Render a report of `ecotta-bench --latency` for people."""

from typing import TextIO

from ecotta_rt.bench.latency_results import LatencyReport, LatencyRow, Times
from ecotta_rt.bench.table import Column, print_table
from ecotta_rt.messages import show

__all__ = ["print_latency_report"]

_MIB = 1024 * 1024

_LEGEND = (
    "time: of one step's wall clock, median and fastest; all of a race took turns, so drift of the machine hits all",
    "x forward: over `forward`, the fastest inference-only graph in onnxruntime: no meta groups, norms folded, its best"
    " session options, same batch and threads; medians",
    "x TENT: over torch's TENT in the same race, in its faster memory layout; medians",
    "process peak: while it raced, keeping freed memory; what a method needs is measured by ecotta-bench --memory",
)
_ONE_FRAME = "TENT and CoTTA at batch 1 are timed for comparison only: with the statistics of one frame they collapse"

_COLUMNS: tuple[Column[LatencyRow], ...] = (
    Column("batch", "", lambda row: str(row.batch)),
    Column("threads", "", lambda row: str(row.threads)),
    Column("engine", "", lambda row: row.engine, right=False),
    Column("method", "", lambda row: row.method, right=False),
    Column("norms", "", lambda row: row.normalisation, right=False),
    Column("time", "ms/frame", lambda row: f"{row.ms_per_frame.median:.2f}"),
    Column("fastest", "ms/frame", lambda row: f"{row.ms_per_frame.min:.2f}"),
    Column("time", "x forward", lambda row: _ratio(row.ratio_to_forward)),
    Column("time", "x TENT", lambda row: _ratio(row.ratio_to_tent)),
    Column("steps", "", lambda row: str(row.steps)),
    Column("process", "peak MiB", lambda row: _mib(row.process_peak_bytes)),
)


def print_latency_report(report: LatencyReport, file: TextIO) -> None:
    """Print headline, table and footnotes to `file`; with escape codes only where that is a terminal.

    Args:
        report: What was timed, finished or broken off.
        file: Where to, often `sys.stdout`.
    """
    stream, environment = report.stream, report.environment
    show(f"{report.model.name}: time of a step on frames of {stream.name}, {report.rounds} rounds in turns", file)
    if report.rows:
        print_table(report.rows, _COLUMNS, file)
    for failure in report.failures:
        show(f"{failure.method}: no result: {failure.message}", file)
    for who, reason in report.left_out.items():
        show(f"{who}: left out: {reason}", file)
    if report.rows:
        print(*_LEGEND, sep="\n", file=file)
    if any(row.batch == 1 and row.normalisation == "batch" for row in report.rows):
        print(_ONE_FRAME, file=file)
    versions = ", ".join(f"{name} {version}" for name, version in environment.versions.items())
    commit = f"; commit {environment.commit}" if environment.commit else ""
    print(f"machine: {environment.cpu}, {environment.cores} cores", file=file)
    print(f"versions: {versions}{commit}", file=file)


def _ratio(times: Times | None) -> str:
    return "" if times is None else f"{times.median:.2f}"


def _mib(size_bytes: int | None) -> str:
    return "" if size_bytes is None else f"{size_bytes / _MIB:.1f}"
