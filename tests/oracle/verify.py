"""Check a plan: what a graph needs, worked out a second time and in another way.

    bundle, name of a graph  ->  verify()  ->  Verified: a floor, an expected peak, who is alive there
    a plan's figure          ->  Verified.objection()  ->  None, or why it cannot be right

The planner follows what onnxruntime makes of a graph when it loads it. This follows the graph as it was exported,
operator by operator in the order of the file (`lives`), puts the tensors into an arena (`arena`), and
measures what a process has before that (`process`). It shares no code with the planner, nor with the
accounting that the exporter writes into the manifest: all three can be wrong, but hardly in the same way.

What it cannot know: which operators onnxruntime will fuse and whether it moves one, and what the kernels of another
processor need for themselves. So a plan is held against the floor strictly, against the expected peak loosely.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from ecotta_rt.bundle import Bundle, GraphEntry
from ecotta_rt.errors import UsageError
from ecotta_rt.session.costs import arena_doubles
from oracle.arena import arena_bytes
from oracle.lives import Life, Lives, find_lives
from oracle.process import ProcessStart, measure_start
from oracle.program import Operation, Program, read_program

__all__ = ["ProcessParts", "Verified", "verify"]

Optimisation = Literal["all", "extended"]
Memory = Literal["arena", "returning"]

_FLOAT_BYTES = 4
_KIB, _MIB = 1 << 10, 1 << 20

_ENGINE_BYTES = 3 * _MIB
_NODE_BYTES = 9 * _KIB
_CODE_BYTES = 5 * _MIB // 2
"""What a process was found to have beyond weights, state, frames and tensors: bundle and engine; a node of a loaded
graph; the pages of onnxruntime's code that a step runs through.

Source: benchmarks/results/budgets/measured.json, the graphs of WRN-40-2 with 1 frame (x86-64, onnxruntime 1.31.1).
"""

_LOADING = {"arena": 1.3, "returning": 0.5}
"""For each byte of weights laid out anew, how many more were there at the worst moment of loading.

Source: as above, WRN-28-10, graph `predict-1`: 139 MiB laid out anew, and 176 or 62 given back after loading.
"""


@dataclass(frozen=True)
class ProcessParts:
    """What a process holds while a graph runs, tensors apart, in bytes.

    Attributes:
        start: Interpreter, libraries, onnxruntime set up; measured.
        session: The engine and the loaded graph; by the number of its nodes.
        weights: Mapped from the bundle, or laid out anew, or both.
        relaid: Of these, convolution weights that onnxruntime lays out anew with optimisation `all` on x86-64. While it
            loads, many are there twice or three times.
        state: The vectors of parameters, momentum and statistics, one to read and one to write; sums of gradients.
        bundle: Pages of the bundle that stay mapped once the initial state was read from them.
        frames: As numbers from 0 to 1 for the graph, and as the caller's bytes.
    """

    start: int
    session: int
    weights: int
    relaid: int
    state: int
    bundle: int
    frames: int

    @property
    def whole(self) -> int:
        """All of them."""
        return self.start + self.session + self.weights + self.state + self.bundle + self.frames


@dataclass(frozen=True)
class Verified:
    """What `verify` found.

    Attributes:
        graph: Name of the graph.
        lives: What it holds, operation by operation; of a frame-by-frame step, the graph `accumulate`.
        tensors_bytes: What its tensors are expected to take, holes of the arena included.
        parts: What else the process has.
        floor_bytes: Less no process can have that runs all of its operators in this order: imports, each weight once,
            state, frames, and the tensors where every elementwise operator writes over its input.
        load_bytes: Expected most while it loads.
        peak_bytes: Expected most altogether, the larger of load and run.
    """

    graph: str
    lives: Lives
    tensors_bytes: int
    parts: ProcessParts
    floor_bytes: int
    load_bytes: int
    peak_bytes: int

    @property
    def tenants(self) -> tuple[Life, ...]:
        """Who is alive where most is, the largest first."""
        return self.lives.at(self.lives.peak)

    def objection(self, peak_bytes: int, most_apart: float = 0.25) -> str | None:
        """Why a planned peak of the process cannot be right; None where nothing speaks against it.

        Args:
            peak_bytes: The plan's figure.
            most_apart: How far it may be from the expected peak, as a share of that.
        """
        planned = f"graph {self.graph!r}: a planned peak of {_mib(peak_bytes)}"
        if peak_bytes < self.floor_bytes:
            return f"{planned} is less than the {_mib(self.floor_bytes)} that its order cannot do without"
        if abs(peak_bytes - self.peak_bytes) > most_apart * self.peak_bytes:
            return f"{planned} is more than {most_apart:.0%} from the {_mib(self.peak_bytes)} expected here"
        return None

    def agrees_with(self, peak_bytes: int, most_apart: float = 0.25) -> bool:
        """Whether there is no objection."""
        return self.objection(peak_bytes, most_apart) is None


def verify(
    bundle: Bundle,
    graph: str,
    *,
    frames: int | None = None,
    optimisation: Optimisation = "all",
    memory: Memory = "arena",
    start: ProcessStart | None = None,
) -> Verified:
    """Work out what running a graph of a bundle takes.

    Args:
        bundle: The bundle.
        graph: Name of a graph that learns or predicts; `accumulate` stands for a whole frame-by-frame step.
        frames: Frames a step, for `accumulate`; otherwise the graph's own.
        optimisation: What onnxruntime does to the graph at load.
        memory: Where tensors live, as in `SessionOptions`.
        start: What a process has before; default: it is measured, here and now.

    Raises:
        UsageError: There is no such graph, or it is `update`, which is part of `accumulate`.
        InputFileError: The graph is damaged, or its sizes cannot be told.
        Unavailable: The start of a process cannot be measured here.
    """
    entry = bundle.manifest.graph(graph)
    if entry is None or entry.kind == "update":
        known = ", ".join(one.name for one in bundle.manifest.graphs if one.kind != "update")
        raise UsageError(f"{bundle.path}: no graph {graph!r} that can be verified by itself; choose one of {known}")
    entries = [entry, *_updates(bundle)] if entry.kind == "accumulate" else [entry]
    programs = [read_program(bundle.graph(one.name), f"{bundle.path}, {one.name}") for one in entries]
    lives = [find_lives(program) for program in programs]
    doubling = arena_doubles(entry.batch)
    most = arena_bytes(programs, doubling=doubling) if memory == "arena" else max(one.most_bytes for one in lives)
    start = measure_start() if start is None else start
    parts = _parts(bundle, entries, programs, optimisation, frames or entry.batch, start)
    once = sum(_weights(programs).values())
    least = max(one.least_bytes for one in lives)
    loaded = parts.start + parts.session + parts.state + parts.bundle + parts.relaid
    load = loaded + max(int(_LOADING[memory] * parts.relaid), parts.bundle)  # the state is read before the graph
    run = parts.whole + _CODE_BYTES + most
    return Verified(
        graph=graph,
        lives=lives[0],
        tensors_bytes=most,
        parts=parts,
        floor_bytes=start.imports_bytes + once + parts.state + _float_frames(bundle, entry) + least,
        load_bytes=load,
        peak_bytes=max(load, run),
    )


def _updates(bundle: Bundle) -> list[GraphEntry]:
    return [graph for graph in bundle.manifest.graphs if graph.kind == "update"]


def _parts(
    bundle: Bundle,
    entries: Sequence[GraphEntry],
    programs: Sequence[Program],
    optimisation: Optimisation,
    frames: int,
    start: ProcessStart,
) -> ProcessParts:
    sizes = _weights(programs)
    relaid, mapped = set[str](), set(sizes)
    if optimisation == "all":
        uses = [
            (name, _is_laid_out_anew(one, program)) for one, program in _all_operations(programs) for name in one.inputs
        ]
        relaid = {name for name, anew in uses if anew and name in sizes}
        mapped = {name for name, anew in uses if not anew and name in sizes}
    frame, layout = bundle.manifest.frame, bundle.manifest.layout
    return ProcessParts(
        start=start.started_bytes,
        session=_ENGINE_BYTES + _NODE_BYTES * sum(entry.nodes for entry in entries),
        weights=sum(sizes[name] for name in mapped) + sum(sizes[name] for name in relaid),
        relaid=sum(sizes[name] for name in relaid),
        state=_state_bytes(bundle, entries[0]),
        bundle=_FLOAT_BYTES * (2 * layout.parameter_count + layout.statistic_count),
        frames=_float_frames(bundle, entries[0]) + frames * frame.channels * frame.height * frame.width,
    )


def _weights(programs: Sequence[Program]) -> dict[str, int]:
    """Bytes of each array of `weights.bin` that the programs use."""
    owners = [*programs, *(branch for one, _ in _all_operations(programs) for branch in one.branches)]
    return {name: program.tensors[name].size_bytes for program in owners for name in program.weights}


def _all_operations(programs: Sequence[Program]) -> Iterator[tuple[Operation, Program]]:
    for program in programs:
        for operation in program.operations:
            yield operation, program
            yield from _all_operations(operation.branches)


def _is_laid_out_anew(operation: Operation, program: Program) -> bool:
    """Whether onnxruntime makes a blocked convolution of it: all its numbers but the feature map are constants.

    Source: onnxruntime, core/optimizer/nchwc_transformer.cc, TransformConv.
    """
    return operation.op_type == "Conv" and all(name in program.constants for name in operation.inputs[1:])


def _state_bytes(bundle: Bundle, entry: GraphEntry) -> int:
    """As the engine holds it: what is read and what is written side by side."""
    parameters, statistics = bundle.manifest.layout.parameter_count, bundle.manifest.layout.statistic_count
    numbers = {
        "predict": 2 * parameters + 2 * statistics,
        "step": 4 * parameters + 2 * statistics,
        "accumulate": 8 * parameters + 3 * statistics,  # two sums of gradients; the statistics before the step
    }
    return _FLOAT_BYTES * numbers[entry.kind]


def _float_frames(bundle: Bundle, entry: GraphEntry) -> int:
    frame = bundle.manifest.frame
    return _FLOAT_BYTES * entry.batch * frame.channels * frame.height * frame.width


def _mib(size_bytes: int) -> str:
    return f"{size_bytes / _MIB:.1f} MiB"
