"""Check a plan: what a graph needs, worked out a second time and in another way.

    bundle, name of a graph  ->  verify()  ->  Verified: a floor, an expected peak, who is alive there

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
from ecotta_rt.session.costs import arena_doubles
from oracle.arena import arena_bytes
from oracle.lives import Lives, find_lives
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
    """What a process holds while a graph runs, tensors apart, in bytes."""

    start: int  # interpreter, libraries, onnxruntime set up; measured
    session: int  # the engine and the loaded graph, by the number of its nodes
    weights: int  # mapped from the bundle, or laid out anew, or both
    relaid: int  # of these, what optimisation `all` lays out anew; while it loads, many are there twice or three times
    state: int  # the vectors, one to read and one to write; sums of gradients
    bundle: int  # pages that stay mapped once the initial state was read from them
    frames: int  # as numbers from 0 to 1 for the graph, and as the caller's bytes

    @property
    def whole(self) -> int:
        """All of them."""
        return self.start + self.session + self.weights + self.state + self.bundle + self.frames


@dataclass(frozen=True)
class Verified:
    """What `verify` found."""

    lives: Lives  # operation by operation; of a frame-by-frame step, the graph `accumulate`
    tensors_bytes: int  # expected, holes of the arena included
    parts: ProcessParts
    floor_bytes: int  # less no process can have: imports, each weight once, state, frames, `Lives.least_bytes`
    load_bytes: int  # expected most while it loads
    peak_bytes: int  # expected most altogether, the larger of load and run


def verify(
    bundle: Bundle,
    graph: str,
    *,
    frames: int | None = None,
    optimisation: Optimisation = "all",
    memory: Memory = "arena",
    start: ProcessStart | None = None,
) -> Verified:
    """Work out what running a graph takes; `accumulate` stands for a whole frame-by-frame step of `frames`."""
    entry = bundle.manifest.graph(graph)
    assert entry is not None and entry.kind != "update", f"{graph!r} cannot be verified by itself"
    updates = [one for one in bundle.manifest.graphs if one.kind == "update"]
    entries = [entry, *updates] if entry.kind == "accumulate" else [entry]
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
        lives=lives[0],
        tensors_bytes=most,
        parts=parts,
        floor_bytes=start.imports_bytes + once + parts.state + _float_frames(bundle, entry) + least,
        load_bytes=load,
        peak_bytes=max(load, run),
    )


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
        state=_state_bytes(bundle, entries[0], frames),
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


def _state_bytes(bundle: Bundle, entry: GraphEntry, frames: int) -> int:
    """As the engine holds it: what is read and what is written side by side, and what was seen in each frame."""
    parameters, statistics = bundle.manifest.layout.parameter_count, bundle.manifest.layout.statistic_count
    numbers = {
        "predict": 2 * parameters + 2 * statistics,
        "observe": 2 * parameters + 2 * statistics,
        "step": 4 * parameters + 2 * statistics,
        # The sums of gradients; what was seen, frame by frame and together.
        "accumulate": (4 + 2 * len(bundle.manifest.ports.gradients)) * parameters + (2 + 2 * frames) * statistics,
    }
    seen = entry.batch * statistics if "seen" in [port.name for port in entry.outputs] else 0
    return _FLOAT_BYTES * (numbers[entry.kind] + seen)


def _float_frames(bundle: Bundle, entry: GraphEntry) -> int:
    frame = bundle.manifest.frame
    return _FLOAT_BYTES * entry.batch * frame.channels * frame.height * frame.width
