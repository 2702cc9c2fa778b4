"""Will it fit? A bundle and a device in, the best way to run it there out; or a refusal with reasons.

    manifest, device, Wish  ->  plan()  ->  Plan: graphs, session options, and the memory of the process in parts

The peak is the larger of load and run, since a device kills at either. It is a sum of what the planner found for each
graph when the bundle was made (`SessionFigures`) and of what a process has besides (`ecotta_rt.session.costs`).
Nothing is loaded and nothing is run here.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ecotta_rt.bundle import GraphEntry, Manifest
from ecotta_rt.bundle.figures import SessionFigures, Tenant
from ecotta_rt.errors import BudgetExceeded, InputFileError, UsageError
from ecotta_rt.machine.device import DeviceProfile
from ecotta_rt.options import AdaptationOptions
from ecotta_rt.session import costs

__all__ = ["Plan", "Wish", "alternatives", "fastest", "plan"]

_MIB = 1 << 20
_FLOAT_BYTES = 4
_KEYS_OF_THE_PRESENT = 9  # its own, the trend, and the last seven
_USUAL_THREADS = 2  # more has not been timed
_TENSORS, _MAPPED = "live tensors", "weights, mapped"
_OF_ANY_NETWORK = _INTERPRETER, _ONNXRUNTIME = "interpreter", "onnxruntime"

# Time against the usual way (a graph that favours memory, all optimisations, arena), from
# benchmarks/results/device-engine: only the order matters here.
_FAST, _EXTENDED, _RETURNING, _FRAME_BY_FRAME = 0.9, 1.2, 1.25, 1.4


@dataclass(frozen=True)
class Wish:
    """What is asked of a plan; what is None is left open.

    Attributes:
        batch: Frames a step; None: the smallest that the bundle has a graph for.
        adapt: Off: only answering is planned. On: only learning is, from every batch. A run that answers some batches
            without learning from them opens a second graph, which is not in the plan.
        threads: Of onnxruntime, never more than the device's cores; None: two where it has two.
        frame_by_frame: Only ways that learn from one frame after the other, or only others.
        fast: Only steps that take more memory for less time, or only others.
        session_options: Only ways with these, see `Plan.session_options`.
        limit_bytes: What one process may have; None: the device's default limit.

    Raises:
        UsageError: A number below 1.
    """

    batch: int | None = None
    adapt: bool = True
    threads: int | None = None
    frame_by_frame: bool | None = None
    fast: bool | None = None
    session_options: Mapping[str, str | int] = field(default_factory=dict)
    limit_bytes: int | None = None

    def __post_init__(self) -> None:
        threads = self.session_options.get("threads", self.threads)
        for name, value in (("batch", self.batch), ("threads", threads)):
            if value is not None and int(value) < 1:
                raise UsageError(f"{name}={value}: give 1 or more")

    def used_threads(self, cores: int) -> int:
        """Of onnxruntime, on a device with so many cores."""
        usual = _USUAL_THREADS if self.threads is None else self.threads
        return min(int(self.session_options.get("threads", usual)), cores)

    def allows(self, way: "Plan") -> bool:
        """Whether a way to run the bundle is one of those asked for."""
        options = {name: value for name, value in self.session_options.items() if name != "threads"}
        return (
            self.frame_by_frame in (None, way.frame_by_frame)
            and (self.fast in (None, way.fast) or not self.adapt)  # there is no fast way to answer
            and options.items() <= way.session_options().items()
        )


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
    parts: tuple[Tenant, ...]
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
        """The fields of `ecotta_rt.options.SessionOptions`."""
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


def plan(manifest: Manifest, device: DeviceProfile, wish: Wish | None = None) -> Plan:
    """The fastest way to run a bundle on a device that fits there.

    Args:
        manifest: The bundle's.
        device: What there is.
        wish: What is asked for; None: anything that learns.

    Raises:
        BudgetExceeded: Nothing fits; the message has need, limit and the largest tenant of what needs least.
        UsageError: The bundle has no graph for what is asked, or was made without figures.
    """
    return fastest(alternatives(manifest, device, wish))


def fastest(ways: Sequence[Plan]) -> Plan:
    """The first of the `alternatives` that fits; raises `BudgetExceeded` as `plan` does."""
    fitting = next((way for way in ways if way.fits), None)
    if fitting is None:
        raise _refusal(min(ways, key=lambda way: way.peak_bytes))
    return fitting


def alternatives(manifest: Manifest, device: DeviceProfile, wish: Wish | None = None) -> list[Plan]:
    """Every way to run a bundle on a device, the fastest first, whether it fits or not.

    Args and Raises: As `plan`, which never raises `BudgetExceeded` here.
    """
    wish = wish or Wish()
    ways = [
        (cost * further, _plan(manifest, device, choice, sessions, memory, wish))
        for choice, cost in _choices(manifest, wish)
        for sessions in _sessions(choice.graphs, device)
        for memory, further in (("arena", _speed(sessions)), ("returning", _speed(sessions) * _page_faults(choice)))
    ]
    if not ways:
        raise UsageError(
            "this bundle was made without figures for the planner: make it again with this ecotta_rt, or name no device"
        )
    allowed = [(cost, way) for cost, way in ways if wish.allows(way)]
    if not allowed:
        raise UsageError(
            "the bundle has no graph for what was asked for together; `ecotta plan --all` shows what it has"
        )
    return [way for _, way in sorted(allowed, key=lambda entry: entry[0])]


def _refusal(least: Plan) -> BudgetExceeded:
    when = "running" if least.run_peak_bytes >= least.load_peak_bytes else "loading"
    smaller = "a smaller batch, frame-by-frame graphs or " if least.batch > 1 and not least.frame_by_frame else ""
    ways = f"Choose {smaller}a smaller network"
    without = sum(part.bytes for part in least.parts if part.name in _OF_ANY_NETWORK)
    if without >= least.limit_bytes:
        ways = f"{without / _MIB:.0f} MiB of it are {' and '.join(_OF_ANY_NETWORK)}: no network fits, whatever its size"
    return BudgetExceeded(
        f"{least.device} allows {least.limit_bytes / _MIB:.0f} MiB, and the smallest way to run this bundle ("
        f"{' and '.join(least.graphs)}, {least.optimisation}, {least.memory}) needs {least.peak_bytes / _MIB:.0f} MiB "
        f"while {when}; the largest part: {least.largest_tenant}. {ways}; `ecotta plan` "
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
        return self.graphs[0].kind in ("step", "accumulate")

    @property
    def fast(self) -> bool:
        return self.graphs[0].fast


def _choices(manifest: Manifest, wish: Wish) -> Iterator[tuple[_Choice, float]]:
    """What may be loaded, and its time against the usual way."""
    kind = "step" if wish.adapt else _answering_kind(manifest)
    sizes = sorted({graph.batch for graph in manifest.graphs if graph.kind == kind})
    one_by_one = _one_by_one(manifest, wish.adapt)
    usual = sizes[0] if sizes and not wish.frame_by_frame else 1
    wanted = usual if wish.batch is None else wish.batch
    if wanted not in sizes and not one_by_one:
        raise UsageError(f"the bundle has no {kind} for {wanted} frames; it has {', '.join(map(str, sizes)) or 'none'}")
    for graph in manifest.graphs:
        if (graph.kind, graph.batch) == (kind, wanted):
            choice = _Choice((graph,), wanted)
            yield choice, _FAST if choice.fast else 1.0
    # A single frame gains nothing from it, where there is a graph for one.
    if one_by_one and (wish.frame_by_frame or wanted > 1 or wanted not in sizes):
        yield _Choice(one_by_one, wanted, True), _FRAME_BY_FRAME


def _one_by_one(manifest: Manifest, adapt: bool) -> tuple[GraphEntry, ...]:
    """The graphs for any number of frames, one after the other; none where the bundle does not offer it."""
    if not any(graph.kind == "accumulate" for graph in manifest.graphs):
        return ()
    kinds = ("accumulate", "update") if adapt else (_answering_kind(manifest),)
    return tuple(graph for graph in manifest.graphs if graph.kind in kinds and graph.batch == 1)


def _answering_kind(manifest: Manifest) -> str:
    """What answers where nothing is learned: statistics follow in any case."""
    return "observe" if manifest.ports.observes else "predict"


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
    memory: str,
    wish: Wish,
) -> Plan:
    threads = wish.used_threads(device.cores)
    code = costs.LIBRARY_BYTES + costs.CODE_AT_LOAD_BYTES + costs.CODE_AT_RUN_BYTES + (threads - 1) * costs.THREAD_BYTES
    nodes = sum(session.nodes for session in sessions)
    parts = [
        Tenant(_INTERPRETER, costs.INTERPRETER_BYTES if device.host == "python" else 0),
        Tenant(_ONNXRUNTIME, code),
        Tenant("sessions", len(sessions) * costs.SESSION_BYTES + nodes * costs.NODE_BYTES),
        # Two graphs of one bundle map the same pages.
        Tenant(_MAPPED, max(session.mapped_bytes for session in sessions)),
        Tenant("weights, laid out anew", sum(session.copied_bytes for session in sessions)),
        Tenant(_TENSORS, _tensor_bytes(sessions, memory, choice.frames_a_run)),
        Tenant("state", _state_bytes(manifest, choice)),
        Tenant("tables", _FLOAT_BYTES * sum(table.count for table in manifest.tables)),
        Tenant("places", _places_bytes(manifest)),
        Tenant("frames", _frame_bytes(manifest, choice)),
    ]
    margin = Tenant("margin", int(costs.MARGIN * sum(part.bytes for part in parts)))
    return Plan(
        device=device.id,
        limit_bytes=device.default_limit_bytes if wish.limit_bytes is None else wish.limit_bytes,
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


def _load_peak_bytes(parts: Sequence[Tenant], sessions: Sequence[SessionFigures], memory: str) -> int:
    loaded = sum(part.bytes for part in parts if part.name not in (_TENSORS, _MAPPED)) - costs.CODE_AT_RUN_BYTES
    # While weights are laid out anew, the old ones and the new are there; graph by graph.
    twice = costs.LAYING_OUT[memory] * max(session.copied_bytes for session in sessions)
    return int((loaded + twice) * (1 + costs.MARGIN))


def _tensor_bytes(sessions: Sequence[SessionFigures], memory: str, frames: int) -> int:
    arenas = sum(session.arena_bytes for session in sessions) * costs.arena_overhead(frames)
    if memory == "arena":
        return int(arenas)
    live = max(session.live_bytes for session in sessions) * costs.RETURNING_OVERHEAD
    return int(max(live, min(arenas, live + costs.HEAP_HOLES_BYTES)))


def _state_bytes(manifest: Manifest, choice: _Choice) -> int:
    """What a run writes is held twice, to be read and written in turn; frame by frame the sums of gradients too.

    What is seen in a frame is as long as the statistics; of more than one run it is put together.
    """
    parameters, statistics = manifest.layout.parameter_count, manifest.layout.statistic_count
    held = 2 * parameters + statistics
    if manifest.ports.observes:
        held += statistics * (choice.frames_a_run + (2 * choice.batch if choice.frame_by_frame else 0))
    written = statistics
    if choice.learns:
        written += 2 * parameters
        held += 2 * len(manifest.ports.gradients) * parameters if choice.frame_by_frame else 0
    return _FLOAT_BYTES * (held + written)


def _places_bytes(manifest: Manifest) -> int:
    """What is remembered of places, where a key tells them apart: see `ecotta_rt.adapt.places`."""
    keys = next((table.count for table in manifest.tables if table.name == "key_centre"), 0)
    if not keys:
        return 0
    try:
        known = 1 + AdaptationOptions.of(manifest.adaptation).places
    except UsageError as error:
        raise InputFileError(f"the bundle's adaptation cannot be used: {error}") from error
    statistics = (known + 2) * manifest.layout.statistic_count  # two snapshots of the present place
    return _FLOAT_BYTES * (statistics + (known + _KEYS_OF_THE_PRESENT) * keys)


def _frame_bytes(manifest: Manifest, choice: _Choice) -> int:
    """The batch as it comes, one byte a value, and what a graph takes, as floats; the answers."""
    frame, batch = manifest.frame, choice.batch
    values = frame.channels * frame.height * frame.width
    answers = 3 * batch * len(manifest.classes)
    return batch * values + _FLOAT_BYTES * (choice.frames_a_run * values + answers)
