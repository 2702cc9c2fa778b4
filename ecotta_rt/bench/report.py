"""Render a report of `ecotta-bench --memory` for people.

Memory is never printed without the error of the same run.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TextIO

from ecotta_rt.bench.memory_cage import limit_in_words
from ecotta_rt.bench.results import Enforced, Report, Row
from ecotta_rt.bench.table import Column, print_table
from ecotta_rt.messages import show

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


def print_report(report: Report, file: TextIO) -> None:
    """Print headline, table and footnotes to `file`; with escape codes only where that is a terminal.

    Args:
        report: What was measured, finished or broken off.
        file: Where to, often `sys.stdout`.
    """
    show(_headline(report), file)
    if report.rows:
        print_table(report.rows, [*_COLUMNS, *_cage_columns(report.enforced), *_device_columns(report)], file)
    for note in (*_enforced_notes(report.enforced), *_failures(report), *_device_notes(report), *_footnotes(report)):
        show(note, file)


_COLUMNS: tuple[Column[Row], ...] = (
    Column("method", "", lambda row: row.method, right=False),
    Column("norms", "", lambda row: row.normalisation, right=False),
    Column("error", "%", lambda row: f"{row.error_percent:.2f}"),
    Column("activations", "MiB", lambda row: _mib(row.activation_bytes)),
    Column("step", "peak MiB", lambda row: _mib(row.step_peak_bytes)),
    Column("growth", "MiB", lambda row: _mib(row.growth_bytes)),
    Column("load", "peak MiB", lambda row: _mib(row.load_peak_bytes)),
    Column("process", "peak MiB", lambda row: _mib(row.process_peak_bytes)),
    Column("time", "ms/frame", lambda row: f"{row.ms_per_frame:.2f}"),
    Column("time", "x forward", lambda row: f"{row.ms_per_frame / row.forward_ms_per_frame:.2f}"),
    Column("trainable", "", lambda row: f"{row.trainable_parameters:,}"),
)


def _mib(size_bytes: int) -> str:
    return f"{size_bytes / _MIB:.1f}"


def _headline(report: Report) -> str:
    stream, model = report.stream, report.model
    size = "" if model.parameters is None else f" ({model.parameters:,} parameters)"
    batches = sorted({row.batch for row in report.rows})
    return (
        f"{model.name}{size} on {stream.name}: {len(stream.corruptions)} corruptions x {stream.frames} frames, "
        f"severity {stream.severity}, {stream.order} order, seed {stream.seed}"
        + "".join(f", batch {batch}" for batch in batches)
        + ("".join(f", engine {engine}" for engine in _engines(report) if engine != "torch"))
    )


def _engines(report: Report) -> list[str]:
    return sorted({row.engine for row in report.rows})


def _cage_columns(enforced: Enforced | None) -> list[Column[Row]]:
    return [] if enforced is None else [Column("cage", "peak MiB", partial(_cage_peak, enforced))]


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


def _failures(report: Report) -> list[str]:
    return [f"{failure.method}: no result: {failure.message}" for failure in report.failures]


def _devices(report: Report) -> list[str]:
    return list(report.rows[0].fits) if report.rows else []


def _device_columns(report: Report) -> list[Column[Row]]:
    devices = _devices(report)
    if len(devices) > _DEVICE_COLUMNS:
        return []
    return [Column("fits", device, partial(_yes_or_no, device), right=False) for device in devices]


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
        notes += [_PLANNED] if "onnx" in _engines(report) else []
        notes += [] if report.enforced is None else [_CAGE_LEGEND]
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
    users: dict[str, dict[str | int | float, list[str]]] = {}
    for row in rows:
        for name, value in row.session_options.items():
            users.setdefault(name, {}).setdefault(value, []).append(row.method)
    return [f"{name} {_told_apart(values)}" for name, values in users.items()]


def _told_apart(users: Mapping[str | int | float, Sequence[str]]) -> str:
    if len(users) == 1:
        return str(next(iter(users)))
    return " and ".join(f"{value} ({', '.join(methods)})" for value, methods in users.items())
