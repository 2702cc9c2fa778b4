"""Render a report of `ecotta-bench` for people.

Memory is never printed without the error of the same run.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Generic, TextIO, TypeVar

from ecotta_rt.bench.memory_cage import limit_in_words
from ecotta_rt.bench.results import BenchReport, Enforced, LatencyRow, Row, Times
from ecotta_rt.messages import in_columns, show

__all__ = ["print_report"]

_MIB = 1024 * 1024
_DEVICE_COLUMNS = 2  # more devices than this are listed below the table

_LEGEND = (
    "error: wrong predictions, made before each update; every figure of a row is of one run in a process of its own",
    "activations: most bytes kept for a later backward during a step, each storage once (what papers print)",
    "step peak: most bytes of live tensors that a step makes; weights and frames, there before it, are not in it",
    "growth: process peak over the process with libraries and data alone ({baseline} MiB)",
    "load peak: of the process until network and method were built; process peak: after that, while the stream ran",
    "time: mean of the adapting loop; x forward: over the fastest inference-only forward of the source network",
)

_PLANNED = "engine onnx: activations and step peak are planned when a graph is made; all other figures are measured"

_CAGE_LEGEND = (
    "cage peak: most that the control group was charged for until the stream was over: with pages of files that it was "
    "the first to read, without those of libraries that other processes had read before"
)

_DEVICE_LEGEND = "fits: the larger of load and process peak, against the device's default limit (see `ecotta devices`)"


_LATENCY_LEGEND = (
    "time: of one step's wall clock, median and fastest; all of a race took turns, so drift of the machine hits all",
    "x forward: over `forward`, the fastest inference-only graph in onnxruntime: no meta groups, norms folded, its best"
    " session options, same batch and threads; medians",
    "x TENT: over torch's TENT in the same race, in its faster memory layout; medians",
    "process peak: while it raced, keeping freed memory; what a method needs is measured by ecotta-bench --memory",
)
_ONE_FRAME = "TENT and CoTTA at batch 1 are timed for comparison only: with the statistics of one frame they collapse"


RowT = TypeVar("RowT")


@dataclass(frozen=True)
class _Column(Generic[RowT]):
    """One column of a table.

    Attributes:
        title: First line of its head.
        unit: Second line of its head.
        cell: Text of the column for a row.
        right: Whether figures are to stand below each other.
    """

    title: str
    unit: str
    cell: Callable[[RowT], str]
    right: bool = True


def print_report(report: BenchReport, file: TextIO) -> None:
    """Print headline, table and footnotes to `file`, as plain text.

    Args:
        report: What was measured, finished or broken off.
        file: Where to, often `sys.stdout`.
    """
    if report.measured == "latency":
        _print_latency(report, [row for row in report.rows if isinstance(row, LatencyRow)], file)
    else:
        _print_memory(report, [row for row in report.rows if isinstance(row, Row)], file)


def _print_memory(report: BenchReport, rows: Sequence[Row], file: TextIO) -> None:
    show(_headline(report, rows), file)
    if rows:
        _print_table(rows, [*_COLUMNS, *_cage_columns(report.enforced), *_device_columns(rows)], file)
    for note in (
        *_enforced_notes(report.enforced),
        *_failures(report),
        *_device_notes(rows),
        *_footnotes(report, rows),
    ):
        show(note, file)


def _print_latency(report: BenchReport, rows: Sequence[LatencyRow], file: TextIO) -> None:
    of = f"{report.model.name}: time of a step on frames of {report.stream.name}"
    show(f"{of}, {report.rounds} rounds in turns", file)
    if rows:
        _print_table(rows, _LATENCY_COLUMNS, file)
    left_out = [f"{who}: left out: {reason}" for who, reason in report.left_out.items()]
    alone = [_ONE_FRAME] if any(row.batch == 1 and row.normalisation == "batch" for row in rows) else []
    for note in (*_failures(report), *left_out, *(_LATENCY_LEGEND if rows else ()), *alone, *_machine(report)):
        show(note, file)


def _print_table(rows: Sequence[RowT], columns: Sequence[_Column[RowT]], file: TextIO) -> None:
    heads = ([column.title for column in columns], [column.unit for column in columns])
    cells = ([column.cell(row) for column in columns] for row in rows)
    right = {place for place, column in enumerate(columns) if column.right}
    print(f"\n{in_columns([*heads, *cells], right)}\n", file=file)


_COLUMNS: tuple[_Column[Row], ...] = (
    _Column("method", "", lambda row: row.method, right=False),
    _Column("norms", "", lambda row: row.normalisation, right=False),
    _Column("error", "%", lambda row: f"{row.error_percent:.2f}"),
    _Column("activations", "MiB", lambda row: _mib(row.activation_bytes)),
    _Column("step", "peak MiB", lambda row: _mib(row.step_peak_bytes)),
    _Column("growth", "MiB", lambda row: _mib(row.growth_bytes)),
    _Column("load", "peak MiB", lambda row: _mib(row.load_peak_bytes)),
    _Column("process", "peak MiB", lambda row: _mib(row.process_peak_bytes)),
    _Column("time", "ms/frame", lambda row: f"{row.ms_per_frame:.2f}"),
    _Column("time", "x forward", lambda row: f"{row.ms_per_frame / row.forward_ms_per_frame:.2f}"),
    _Column("trainable", "", lambda row: f"{row.trainable_parameters:,}"),
)


_LATENCY_COLUMNS: tuple[_Column[LatencyRow], ...] = (
    _Column("batch", "", lambda row: str(row.batch)),
    _Column("threads", "", lambda row: str(row.threads)),
    _Column("engine", "", lambda row: row.engine, right=False),
    _Column("method", "", lambda row: row.method, right=False),
    _Column("norms", "", lambda row: row.normalisation, right=False),
    _Column("time", "ms/frame", lambda row: f"{row.ms_per_frame.median:.2f}"),
    _Column("fastest", "ms/frame", lambda row: f"{row.ms_per_frame.min:.2f}"),
    _Column("time", "x forward", lambda row: _ratio(row.ratio_to_forward)),
    _Column("time", "x TENT", lambda row: _ratio(row.ratio_to_tent)),
    _Column("steps", "", lambda row: str(row.steps)),
    _Column("process", "peak MiB", lambda row: "" if row.process_peak_bytes is None else _mib(row.process_peak_bytes)),
)


def _ratio(times: Times | None) -> str:
    return "" if times is None else f"{times.median:.2f}"


def _mib(size_bytes: int) -> str:
    return f"{size_bytes / _MIB:.1f}"


def _headline(report: BenchReport, rows: Sequence[Row]) -> str:
    stream, model = report.stream, report.model
    size = "" if model.parameters is None else f" ({model.parameters:,} parameters)"
    batches = sorted({row.batch for row in rows})
    return (
        f"{model.name}{size} on {stream.name}: {len(stream.corruptions)} corruptions x {stream.frames} frames, "
        f"severity {stream.severity}, {stream.order} order, seed {stream.seed}"
        + "".join(f", batch {batch}" for batch in batches)
        + ("".join(f", engine {engine}" for engine in _engines(rows) if engine != "torch"))
    )


def _engines(rows: Sequence[Row]) -> list[str]:
    return sorted({row.engine for row in rows})


def _cage_columns(enforced: Enforced | None) -> list[_Column[Row]]:
    return [] if enforced is None else [_Column("cage", "peak MiB", partial(_cage_peak, enforced))]


def _cage_peak(enforced: Enforced, row: Row) -> str:
    record = enforced.held.get(row.method)
    return "-" if record is None or record.peak_bytes is None else _mib(record.peak_bytes)


def _enforced_notes(enforced: Enforced | None) -> list[str]:
    if enforced is None:
        return []
    whose = "" if enforced.device is None else f", the default limit of {enforced.device}"
    return [
        f"enforced: {limit_in_words(enforced.limit_bytes)}{whose}, by a control group without swap; "
        f"killed: {', '.join(enforced.killed) or 'none'}"
    ]


def _failures(report: BenchReport) -> list[str]:
    return [f"{failure.method}: no result: {failure.message}" for failure in report.failures]


def _devices(rows: Sequence[Row]) -> list[str]:
    return list(rows[0].fits) if rows else []


def _device_columns(rows: Sequence[Row]) -> list[_Column[Row]]:
    devices = _devices(rows)
    if len(devices) > _DEVICE_COLUMNS:
        return []
    return [_Column("fits", device, partial(_yes_or_no, device), right=False) for device in devices]


def _yes_or_no(device: str, row: Row) -> str:
    return "yes" if row.fits[device] else "no"


def _device_notes(rows: Sequence[Row]) -> list[str]:
    devices = _devices(rows)
    if len(devices) <= _DEVICE_COLUMNS:
        return []
    width = max(map(len, devices))
    fitting = {device: [row.method for row in rows if row.fits[device]] for device in devices}
    lines = [f"  {device.ljust(width)}  {_all_or_names(fitting[device], len(rows))}" for device in devices]
    return ["fits:", *lines, ""]


def _all_or_names(names: Sequence[str], of: int) -> str:
    if not names:
        return "none"
    return "all" if len(names) == of else ", ".join(names)


def _footnotes(report: BenchReport, rows: Sequence[Row]) -> list[str]:
    notes = []
    if rows:
        baseline = _mib(max(row.process_baseline_bytes for row in rows))
        notes += [line.format(baseline=baseline) for line in _LEGEND]
        notes += [_PLANNED] if "onnx" in _engines(rows) else []
        notes += [] if report.enforced is None else [_CAGE_LEGEND]
        notes += [_DEVICE_LEGEND] if _devices(rows) else []
        notes += ["options: " + ", ".join(_options(rows))]
    machine, versions = _machine(report)
    return [
        *notes,
        f"{machine}; threads: {report.environment.threads}",
        versions,
        f"one seed ({report.stream.seed}) on one machine is an observation, not a result: repeat with other seeds",
    ]


def _machine(report: BenchReport) -> tuple[str, str]:
    environment = report.environment
    versions = ", ".join(f"{name} {version}" for name, version in environment.versions.items())
    commit = f"; commit {environment.commit}" if environment.commit else ""
    return f"machine: {environment.cpu}, {environment.cores} cores", f"versions: {versions}{commit}"


def _options(rows: Sequence[Row]) -> list[str]:
    """Each option with its value; where methods differ, every value with the methods it belongs to."""
    users: dict[str, dict[str | int | float, list[str]]] = {}
    for row in rows:
        for name, value in row.session_options.items():
            users.setdefault(name, {}).setdefault(value, []).append(row.method)
    return [f"{name} {_told_apart(values)}" for name, values in users.items()]


def _told_apart(users: Mapping[str | int | float, Sequence[str]]) -> str:
    if len(users) == 1:
        return str(next(iter(users)))
    return " and ".join(f"{value} ({', '.join(methods)})" for value, methods in users.items())
