"""Render a report for a terminal: a rich table on one, plain aligned text into a pipe.

Memory is never printed without the error of the same run.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, NamedTuple, TextIO

from ecotta_rt.bench.results import Report, Row

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["print_report"]

_MIB = 1024 * 1024
_WIDEST = 1000  # columns of a terminal
_DEVICE_COLUMNS = 2  # more devices than this are listed below the table

_LEGEND = (
    "error: wrong predictions, made before each update; every figure of a row is of one run in a process of its own",
    "activations: most bytes kept for a later backward during a step, each storage once (what papers print)",
    "step peak: most bytes of live tensors that a step makes; weights and frames, there before it, are not in it",
    "growth: process peak over the process with libraries and data alone ({baseline} MiB)",
    "load peak: of the process until network and method were built; process peak: after that, while the stream ran",
    "time: mean of the adapting loop; x forward: over the fastest inference-only forward of the source network",
)

_DEVICE_LEGEND = "fits: the larger of load and process peak, against the device's default limit (see `ecotta devices`)"


class _Column(NamedTuple):
    title: str
    unit: str
    cell: Callable[[Row], str]
    right: bool = True


def print_report(report: Report, file: TextIO) -> None:
    """Print headline, table and footnotes to `file`; with escape codes only where that is a terminal.

    Args:
        report: What was measured, finished or broken off.
        file: Where to, often `sys.stdout`.
    """
    print(_headline(report), file=file)
    if report.rows:
        _print_table(report.rows, [*_COLUMNS, *_device_columns(report)], file)
    for note in (*_failures(report), *_device_notes(report), *_footnotes(report)):
        print(note, file=file)


_COLUMNS = (
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


def _mib(size_bytes: int) -> str:
    return f"{size_bytes / _MIB:.1f}"


def _plain_table(rows: Sequence[Row], columns: Sequence[_Column]) -> str:
    filled = []
    for column in columns:
        cells = [column.title, column.unit, *(column.cell(row) for row in rows)]
        width = max(map(len, cells))
        filled.append([cell.rjust(width) if column.right else cell.ljust(width) for cell in cells])
    return "\n".join("  ".join(line).rstrip() for line in zip(*filled, strict=True))


def _print_table(rows: Sequence[Row], columns: Sequence[_Column], file: TextIO) -> None:
    if file.isatty() and find_spec("rich") is not None:
        from rich.console import Console

        console, table = Console(file=file), _rich_table(rows, columns)
        wide = console.options.update(max_width=_WIDEST)
        # rich makes a table fit by cutting figures short; lines that the terminal wraps can still be read.
        if console.measure(table, options=wide).maximum <= console.width:
            console.print(table)
            return
    print(f"\n{_plain_table(rows, columns)}\n", file=file)


def _rich_table(rows: Sequence[Row], columns: Sequence[_Column]) -> "Table":
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAVY, padding=(0, 1, 0, 0))
    for column in columns:
        table.add_column(f"{column.title}\n{column.unit}", justify="right" if column.right else "left", no_wrap=True)
    for row in rows:
        table.add_row(*(column.cell(row) for column in columns))
    return table


def _headline(report: Report) -> str:
    stream, model = report.stream, report.model
    size = "" if model.parameters is None else f" ({model.parameters:,} parameters)"
    batches = sorted({row.batch for row in report.rows})
    return (
        f"{model.name}{size} on {stream.name}: {len(stream.corruptions)} corruptions x {stream.frames} frames, "
        f"severity {stream.severity}, {stream.order} order, seed {stream.seed}"
        + "".join(f", batch {batch}" for batch in batches)
    )


def _failures(report: Report) -> list[str]:
    return [f"{failure.method}: no result: {failure.message}" for failure in report.failures]


def _devices(report: Report) -> list[str]:
    return list(report.rows[0].fits) if report.rows else []


def _device_columns(report: Report) -> list[_Column]:
    devices = _devices(report)
    if len(devices) > _DEVICE_COLUMNS:
        return []
    return [_Column("fits", device, partial(_yes_or_no, device), right=False) for device in devices]


def _yes_or_no(device: str, row: Row) -> str:
    return "yes" if row.fits[device] else "no"


def _device_notes(report: Report) -> list[str]:
    devices = _devices(report)
    if len(devices) <= _DEVICE_COLUMNS:
        return []
    width = max(map(len, devices))
    fitting = {device: [row.method for row in report.rows if row.fits[device]] for device in devices}
    lines = [f"  {device.ljust(width)}  {_all_or_names(fitting[device], len(report.rows))}" for device in devices]
    return ["fits:", *lines, ""]


def _all_or_names(names: Sequence[str], of: int) -> str:
    if not names:
        return "none"
    return "all" if len(names) == of else ", ".join(names)


def _footnotes(report: Report) -> list[str]:
    environment = report.environment
    notes = []
    if report.rows:
        baseline = _mib(max(row.process_baseline_bytes for row in report.rows))
        notes += [line.format(baseline=baseline) for line in _LEGEND]
        notes += [_DEVICE_LEGEND] if _devices(report) else []
        notes += ["options: " + ", ".join(_options(report.rows))]
    versions = ", ".join(f"{name} {version}" for name, version in environment.versions.items())
    commit = f"; commit {environment.commit}" if environment.commit else ""
    return [
        *notes,
        f"machine: {environment.cpu}, {environment.cores} cores; threads: {environment.threads}",
        f"versions: {versions}{commit}",
        f"one seed ({report.stream.seed}) on one machine is an observation, not a result: repeat with other seeds",
    ]


def _options(rows: Sequence[Row]) -> list[str]:
    """Each option with its value; where methods differ, every value with the methods it belongs to."""
    users: dict[str, dict[str | int, list[str]]] = {}
    for row in rows:
        for name, value in row.session_options.items():
            users.setdefault(name, {}).setdefault(value, []).append(row.method)
    return [f"{name} {_told_apart(values)}" for name, values in users.items()]


def _told_apart(users: Mapping[str | int, Sequence[str]]) -> str:
    if len(users) == 1:
        return str(next(iter(users)))
    return " and ".join(f"{value} ({', '.join(methods)})" for value, methods in users.items())
