"""One run of a graph on paper: what is alive at each node, and what the process holds for it.

optimised graph, original graph  ->  simulate()  ->  PlannedRun
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ecotta_rt.files.onnx_graph import Graph, Node
from ecotta_rt.plan.arena import Arena
from ecotta_rt.plan.buffers import Buffer, plan_buffers
from ecotta_rt.plan.order import execution_order
from ecotta_rt.plan.shapes import Tensor, block_channels, shapes_of
from ecotta_rt.plan.workspace import workspace_bytes

__all__ = ["PlannedRun", "simulate"]

_RUNS = 3  # the second finds the arena as the first left it, and may fit otherwise; after that it stays


@dataclass(frozen=True)
class PlannedRun:
    """What a run of a graph needs, inputs, weights and bound outputs not counted.

    Attributes:
        live_bytes: At each node, in the order of the run, the buffers in use and what the node takes for itself.
        peak_bytes: The largest of `live_bytes`.
        arena_bytes: What onnxruntime's arena takes, after some runs.
        tenants: Tensors that are alive at the peak, by name, the largest first.
    """

    live_bytes: tuple[int, ...]
    peak_bytes: int
    arena_bytes: int
    tenants: Mapping[str, int]


def simulate(
    graph: Graph,
    original: Graph,
    threads: int,
    *,
    values: Mapping[str, Tensor] | None = None,
    doubling: bool = False,
) -> PlannedRun:
    """Run a graph on paper.

    Args:
        graph: As onnxruntime has optimised it.
        original: As it was exported.
        threads: Threads within one operator.
        values: Tensors of an enclosing graph, for a nested one.
        doubling: How the arena grows, see `Arena`.
    """
    order = execution_order(graph, original)
    known = {**(values or {}), **shapes_of(graph, order, block_channels(graph))}
    # onnxruntime numbers what it makes in each graph anew: a nested graph may use an outer name for its own.
    own_names = {output for node in order for output in node.outputs}
    outer_names = set(values or {}) - own_names
    outside = frozenset([*graph.inputs, *graph.initializers, *graph.outputs, *outer_names])
    buffers = plan_buffers(order, known, outside)
    own = [_own_bytes(node, original, known, threads, doubling) for node in order]
    live = _live(buffers, own)
    peak = max(range(len(live)), key=live.__getitem__, default=0)
    return PlannedRun(
        live_bytes=tuple(live),
        peak_bytes=max(live, default=0),
        arena_bytes=_arena_bytes(buffers, own, doubling),
        tenants=_tenants(buffers, peak, own[peak] if own else (), order),
    )


def _own_bytes(
    node: Node, original: Graph, known: Mapping[str, Tensor], threads: int, doubling: bool
) -> tuple[int, ...]:
    """What a node takes for itself; of its nested graphs the one that needs most, the only one that runs."""
    if not node.graphs:
        return workspace_bytes(node, known, threads)
    counterparts = dict(next((other.graphs for other in original.nodes if other.name == node.name), node.graphs))
    runs = [
        simulate(graph, counterparts.get(name, graph), threads, values=known, doubling=doubling)
        for name, graph in node.graphs
    ]
    return (max(run.arena_bytes for run in runs),)


def _live(buffers: Sequence[Buffer], own: Sequence[tuple[int, ...]]) -> list[int]:
    change = [0] * (len(own) + 1)
    for buffer in buffers:
        change[buffer.born] += buffer.bytes
        change[buffer.died + 1] -= buffer.bytes
    live, now = [], 0
    for place, pieces in enumerate(own):
        now += change[place]
        live.append(now + sum(pieces))
    return live


def _arena_bytes(buffers: Sequence[Buffer], own: Sequence[tuple[int, ...]], doubling: bool) -> int:
    born: dict[int, list[Buffer]] = defaultdict(list)
    died: dict[int, list[Buffer]] = defaultdict(list)
    for buffer in buffers:
        if buffer.bytes:
            born[buffer.born].append(buffer)
            died[buffer.died].append(buffer)
    arena = Arena(doubling)
    for _ in range(_RUNS):
        chunks = {}
        for place, pieces in enumerate(own):
            for buffer in born[place]:
                chunks[id(buffer)] = arena.take(buffer.bytes)
            for chunk in [arena.take(size) for size in pieces if size]:
                arena.give_back(chunk)
            for buffer in died[place]:
                arena.give_back(chunks[id(buffer)])
    return arena.resident_bytes


def _tenants(buffers: Sequence[Buffer], peak: int, own: tuple[int, ...], order: Sequence[Node]) -> dict[str, int]:
    there = [
        (max(tenant for tenant in buffer.tenants if tenant[0] <= peak)[1], buffer.bytes)
        for buffer in buffers
        if buffer.born <= peak <= buffer.died
    ]
    if sum(own):
        there.append((f"workspace of {order[peak].op} {order[peak].name}", sum(own)))
    return dict(sorted(there, key=lambda tenant: (-tenant[1], tenant[0])))
