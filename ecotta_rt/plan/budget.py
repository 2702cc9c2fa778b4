"""Will it fit? A bundle and a device in, the best way to run it there out; or a refusal with reasons.

    manifest, device  ->  plan()  ->  Plan: graphs, session options, and the memory of the process in parts

The peak is the larger of load and run, since a device kills at either. It is a sum of what the planner found for each
graph when the bundle was made (`SessionFigures`) and of what a process has besides, measured on x86-64 with
onnxruntime 1.31.1: no board has been measured yet. benchmarks/results/budgets.json holds planned, verified and measured
peaks side by side. Nothing is loaded and nothing is run here.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ecotta_rt.bundle import GraphEntry, Manifest
from ecotta_rt.bundle.figures import SessionFigures, Tenant, arena_overhead
from ecotta_rt.errors import BudgetExceeded, UsageError
from ecotta_rt.machine.device import DeviceProfile

__all__ = ["Part", "Plan", "alternatives", "plan"]

_MIB = 1 << 20
_FLOAT_BYTES = 4
_USUAL_THREADS = 2  # more has not been timed
_TENSORS, _MAPPED = "live tensors", "weights, mapped"

# Resident memory of a fresh process (VmRSS), Python 3.11, numpy 2.4 and onnxruntime 1.31.1 on x86-64:
_INTERPRETER_BYTES = int(31.8 * _MIB)  # Python 9, numpy 17.5, this package 3, `ecotta run` 2.3
_LIBRARY_BYTES = int(16.7 * _MIB)  # importing onnxruntime, its telemetry off
_CODE_AT_LOAD_BYTES = 10 * _MIB  # pages of its code that making a session touches
_CODE_AT_RUN_BYTES = int(2.5 * _MIB)  # and that running one adds
# Anonymous memory of a loaded session, over graphs of 391 to 1,775 nodes:
_SESSION_BYTES = 1 * _MIB
_NODE_BYTES = 5530
_THREAD_BYTES = 128 * 1024  # the stack that a worker touches
# What malloc needs for tensors that are given back one by one: the small ones leave holes in the heap, up to what an
# arena would have.
_RETURNING_OVERHEAD = 1.10
_HEAP_HOLES_BYTES = 6 * _MIB
# Of the weights that are laid out anew, what is there a second time at the worst moment of loading.
_LAYING_OUT = {"arena": 0.97, "returning": 0.5}
# Mapped pages and the heap differ by some per cent from run to run; a plan must not be below any of them.
_MARGIN = 0.04

# Time against the usual way (a graph that favours memory, all optimisations, arena), from
# benchmarks/results/device-engine: only the order matters here.
_FAST, _EXTENDED, _RETURNING, _FRAME_BY_FRAME = 0.9, 1.2, 1.25, 1.4


@dataclass(frozen=True)
class Part:
    """One share of a process's memory.

    Attributes:
        name: What it is.
        bytes: How much.
    """

    name: str
    bytes: int


@dataclass(frozen=True)
class Plan:
    """One way to run a bundle on a device, and what it needs.

    Attributes:
        device: Id of the device profile.
        limit_bytes: What one process may have.
        graphs: Names of the graphs that are loaded.
        batch: Frames a step.
        frame_by_frame: Whether they are learned from one by one.
        fast: Whether it is the step that takes more memory for less time.
        threads: Of onnxruntime within one operator.
        optimisation: See `ecotta_rt.options.OPTIMISATIONS`.
        memory: See `ecotta_rt.options.MEMORY_KINDS`.
        parts: The process at its worst moment while it runs, in parts.
        load_peak_bytes: Its worst moment while the graphs are loaded.
        tenants: The largest tensors that are alive at the peak of a step.
    """

    device: str
    limit_bytes: int
    graphs: tuple[str, ...]
    batch: int
    frame_by_frame: bool
    fast: bool
    threads: int
    optimisation: str
    memory: str
    parts: tuple[Part, ...]
    load_peak_bytes: int
    tenants: tuple[Tenant, ...]

    @property
    def run_peak_bytes(self) -> int:
        """The worst moment of running."""
        return sum(part.bytes for part in self.parts)

    @property
    def peak_bytes(self) -> int:
        """The larger of load and run."""
        return max(self.load_peak_bytes, self.run_peak_bytes)

    @property
    def fits(self) -> bool:
        """Whether the peak stays within the limit."""
        return self.peak_bytes <= self.limit_bytes

    @property
    def largest_tenant(self) -> str:
        """What to look at first when it does not fit."""
        largest = max(self.parts, key=lambda part: part.bytes)
        if largest.name == _TENSORS and self.tenants:
            return f"{largest.name} ({self.tenants[0].name}: {self.tenants[0].bytes / _MIB:.1f} MiB)"
        return largest.name

    def session_options(self) -> dict[str, str | int]:
        """The fields of `ecotta_rt.session.opening.SessionOptions`."""
        return {"threads": self.threads, "optimisation": self.optimisation, "memory": self.memory}

    def as_json(self) -> dict[str, Any]:
        """The plan as plain values."""
        return {
            "device": self.device,
            "fits": self.fits,
            "limit_bytes": self.limit_bytes,
            "peak_bytes": self.peak_bytes,
            "load_peak_bytes": self.load_peak_bytes,
            "run_peak_bytes": self.run_peak_bytes,
            "parts": {part.name: part.bytes for part in self.parts},
            "largest_tenant": self.largest_tenant,
            "tenants": [{"name": tenant.name, "bytes": tenant.bytes} for tenant in self.tenants],
            "step": {
                "graphs": list(self.graphs),
                "batch": self.batch,
                "frame_by_frame": self.frame_by_frame,
                "fast": self.fast,
            },
            "session_options": self.session_options(),
        }


def plan(
    manifest: Manifest,
    device: DeviceProfile,
    *,
    batch: int | None = None,
    adapt: bool = True,
    threads: int | None = None,
    frame_by_frame: bool | None = None,
    fast: bool | None = None,
    session_options: Mapping[str, str | int] | None = None,
    limit_bytes: int | None = None,
) -> Plan:
    """The fastest way to run a bundle on a device that fits there.

    Args:
        manifest: The bundle's.
        device: What there is.
        batch: Frames a step; None: the smallest that the bundle has a graph for.
        adapt: Off: only answering is planned. On: only learning is, from every batch. A run that answers some batches
            without learning from them opens a second graph, which is not in the plan.
        threads: Of onnxruntime, never more than the device's cores; None: two where it has two.
        frame_by_frame: Only ways that learn from one frame after the other, or only others; None: either.
        fast: Only steps that take more memory for less time, or only others; None: either.
        session_options: Only ways with these, see `Plan.session_options`; None: any.
        limit_bytes: What one process may have; None: the device's default limit.

    Raises:
        BudgetExceeded: Nothing fits; the message has need, limit and the largest tenant of what needs least.
        UsageError: A number below 1; the bundle has no graph for what is asked, or was made without figures.
    """
    ways = alternatives(
        manifest,
        device,
        batch=batch,
        adapt=adapt,
        threads=threads,
        frame_by_frame=frame_by_frame,
        fast=fast,
        session_options=session_options,
        limit_bytes=limit_bytes,
    )
    fitting = (way for way in ways if way.fits)
    fastest = next(fitting, None)
    if fastest is None:
        raise _refusal(device, min(ways, key=lambda way: way.peak_bytes))
    return fastest


def alternatives(
    manifest: Manifest,
    device: DeviceProfile,
    *,
    batch: int | None = None,
    adapt: bool = True,
    threads: int | None = None,
    frame_by_frame: bool | None = None,
    fast: bool | None = None,
    session_options: Mapping[str, str | int] | None = None,
    limit_bytes: int | None = None,
) -> list[Plan]:
    """Every way to run a bundle on a device, the fastest first, whether it fits or not.

    Args and Raises: As `plan`, which never raises `BudgetExceeded` here.
    """
    options = dict(session_options or {})
    wanted_threads = int(options.pop("threads", _USUAL_THREADS if threads is None else threads))
    for name, value in (("batch", batch), ("threads", wanted_threads)):
        if value is not None and value < 1:
            raise UsageError(f"{name}={value}: give 1 or more")
    used_threads = min(wanted_threads, device.cores)
    limit = device.default_limit_bytes if limit_bytes is None else limit_bytes
    ways = [
        (cost * further, _plan(manifest, device, choice, sessions, used_threads, memory, limit))
        for choice, cost in _choices(manifest, batch, adapt, bool(frame_by_frame))
        for sessions in _sessions(choice.graphs, device)
        for memory, further in (("arena", _speed(sessions)), ("returning", _speed(sessions) * _page_faults(choice)))
    ]
    if not ways:
        raise UsageError(
            "this bundle was made without figures for the planner: make it again with this ecotta_rt, or name no device"
        )
    open_ways = [
        (cost, way)
        for cost, way in ways
        if frame_by_frame in (None, way.frame_by_frame)
        and (fast in (None, way.fast) or not adapt)  # there is no fast way to answer
        and options.items() <= way.session_options().items()
    ]
    if not open_ways:
        raise UsageError(
            "the bundle has no graph for what was asked for together; `ecotta plan --all` shows what it has"
        )
    return [way for _, way in sorted(open_ways, key=lambda entry: entry[0])]


def _refusal(device: DeviceProfile, least: Plan) -> BudgetExceeded:
    when = "running" if least.run_peak_bytes >= least.load_peak_bytes else "loading"
    smaller = "a smaller batch, frame-by-frame graphs or " if least.batch > 1 and not least.frame_by_frame else ""
    return BudgetExceeded(
        f"{device.id} allows {least.limit_bytes / _MIB:.0f} MiB, and the smallest way to run this bundle ("
        f"{' and '.join(least.graphs)}, {least.optimisation}, {least.memory}) needs {least.peak_bytes / _MIB:.0f} MiB "
        f"while {when}; the largest part: {least.largest_tenant}. Choose {smaller}a smaller network; `ecotta plan` "
        "shows all parts",
        need_bytes=least.peak_bytes,
        limit_bytes=least.limit_bytes,
        largest_tenant=least.largest_tenant,
    )


def _speed(sessions: Sequence[SessionFigures]) -> float:
    return _EXTENDED if sessions[0].optimisation == "extended" else 1.0


def _page_faults(choice: "_Choice") -> float:
    """What giving tensors back to the system costs; those of one frame are too small to be given back."""
    return _RETURNING if choice.frames_a_run > 1 else 1.01


@dataclass(frozen=True)
class _Choice:
    """Graphs that are loaded together."""

    graphs: tuple[GraphEntry, ...]
    batch: int
    frame_by_frame: bool = False

    @property
    def frames_a_run(self) -> int:
        return 1 if self.frame_by_frame else self.batch

    @property
    def learns(self) -> bool:
        return self.graphs[0].kind != "predict"

    @property
    def fast(self) -> bool:
        return self.graphs[0].fast


def _choices(
    manifest: Manifest, batch: int | None, adapt: bool, frame_by_frame: bool
) -> Iterator[tuple[_Choice, float]]:
    """What may be loaded, and its time against the usual way."""
    kind = "step" if adapt else "predict"
    sizes = sorted({graph.batch for graph in manifest.graphs if graph.kind == kind})
    one_by_one = _one_by_one(manifest, adapt)
    usual = sizes[0] if sizes and not frame_by_frame else 1
    wanted = usual if batch is None else batch
    if wanted not in sizes and not one_by_one:
        raise UsageError(f"the bundle has no {kind} for {wanted} frames; it has {', '.join(map(str, sizes)) or 'none'}")
    for graph in manifest.graphs:
        if (graph.kind, graph.batch) == (kind, wanted):
            choice = _Choice((graph,), wanted)
            yield choice, _FAST if choice.fast else 1.0
    # A single frame gains nothing from it, where there is a graph for one.
    if one_by_one and (frame_by_frame or wanted > 1 or wanted not in sizes):
        yield _Choice(one_by_one, wanted, True), _FRAME_BY_FRAME


def _one_by_one(manifest: Manifest, adapt: bool) -> tuple[GraphEntry, ...]:
    """The graphs for any number of frames, one after the other; none where the bundle does not offer it."""
    if not any(graph.kind == "accumulate" for graph in manifest.graphs):
        return ()
    kinds = ("accumulate", "update") if adapt else ("predict",)
    return tuple(graph for graph in manifest.graphs if graph.kind in kinds and graph.batch == 1)


def _sessions(graphs: Sequence[GraphEntry], device: DeviceProfile) -> Iterator[tuple[SessionFigures, ...]]:
    """The figures of all graphs for each optimisation that all of them have.

    On Arm the two come to the same: onnxruntime 1.31.1 has its blocked layout on x86-64 alone
    (benchmarks/results/arm64.json), and figures of "all" from there would be of another graph.
    """
    for first in graphs[0].sessions:
        if first.optimisation == "all" and not any(feature.startswith("avx") for feature in device.isa):
            continue
        same = [s for graph in graphs for s in graph.sessions if s.optimisation == first.optimisation]
        if len(same) == len(graphs):
            yield tuple(same)


def _plan(
    manifest: Manifest,
    device: DeviceProfile,
    choice: _Choice,
    sessions: Sequence[SessionFigures],
    threads: int,
    memory: str,
    limit_bytes: int,
) -> Plan:
    code = _LIBRARY_BYTES + _CODE_AT_LOAD_BYTES + _CODE_AT_RUN_BYTES + (threads - 1) * _THREAD_BYTES
    nodes = sum(session.nodes for session in sessions)
    parts = [
        Part("interpreter", _INTERPRETER_BYTES if device.host == "python" else 0),
        Part("onnxruntime", code),
        Part("sessions", len(sessions) * _SESSION_BYTES + nodes * _NODE_BYTES),
        # Two graphs of one bundle map the same pages.
        Part(_MAPPED, max(session.mapped_bytes for session in sessions)),
        Part("weights, laid out anew", sum(session.copied_bytes for session in sessions)),
        Part(_TENSORS, _tensor_bytes(sessions, memory, choice.frames_a_run)),
        Part("state", _state_bytes(manifest, choice)),
        Part("frames", _frame_bytes(manifest, choice)),
    ]
    margin = Part("margin", int(_MARGIN * sum(part.bytes for part in parts)))
    return Plan(
        device=device.id,
        limit_bytes=limit_bytes,
        graphs=tuple(graph.name for graph in choice.graphs),
        batch=choice.batch,
        frame_by_frame=choice.frame_by_frame,
        fast=choice.fast,
        threads=threads,
        optimisation=sessions[0].optimisation,
        memory=memory,
        parts=(*(part for part in parts if part.bytes), margin),
        load_peak_bytes=_load_peak_bytes(parts, sessions, memory),
        tenants=max(sessions, key=lambda session: session.live_bytes).tenants,
    )


def _load_peak_bytes(parts: Sequence[Part], sessions: Sequence[SessionFigures], memory: str) -> int:
    loaded = sum(part.bytes for part in parts if part.name not in (_TENSORS, _MAPPED)) - _CODE_AT_RUN_BYTES
    # While weights are laid out anew, the old ones and the new are there; graph by graph.
    twice = _LAYING_OUT[memory] * max(session.copied_bytes for session in sessions)
    return int((loaded + twice) * (1 + _MARGIN))


def _tensor_bytes(sessions: Sequence[SessionFigures], memory: str, frames: int) -> int:
    arenas = sum(session.arena_bytes for session in sessions) * arena_overhead(frames)
    if memory == "arena":
        return int(arenas)
    live = max(session.live_bytes for session in sessions) * _RETURNING_OVERHEAD
    return int(max(live, min(arenas, live + _HEAP_HOLES_BYTES)))


def _state_bytes(manifest: Manifest, choice: _Choice) -> int:
    """What a run writes is held twice, to be read and written in turn; frame by frame two sums of gradients too."""
    parameters, statistics = manifest.layout.parameter_count, manifest.layout.statistic_count
    held = 2 * parameters + statistics
    written = statistics
    if choice.learns:
        written += 2 * parameters
        held += 4 * parameters if choice.frame_by_frame else 0
    return _FLOAT_BYTES * (held + written)


def _frame_bytes(manifest: Manifest, choice: _Choice) -> int:
    """The batch as it comes, one byte a value, and what a graph takes, as floats; the answers."""
    frame, batch = manifest.frame, choice.batch
    values = frame.channels * frame.height * frame.width
    answers = 3 * batch * len(manifest.classes)
    return batch * values + _FLOAT_BYTES * (choice.frames_a_run * values + answers)
