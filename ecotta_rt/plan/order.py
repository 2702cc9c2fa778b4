"""In which order onnxruntime runs the nodes of an optimised graph.

With the execution order PRIORITY_BASED (see `ecotta_rt.session.opening`) it takes, of the nodes whose inputs are there,
the one with the lowest number; `Size` and `Shape` go before all others. Numbers are given when a node is made: first
those of the file, in its order, then those that optimisations make, pass by pass. The optimised file does not tell
them, but names do: what kept its name from the original graph has the number of its place there.

Source: onnxruntime/core/graph/graph.cc, PriorityNodeCompare and KahnsTopologicalSort. The order of the passes was read
from profiles of onnxruntime 1.31.1 (its field node_index), and a test compares with one.
"""

import heapq
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence

from ecotta_rt.files.onnx_graph import Graph, Node

__all__ = ["execution_order", "outer_values"]

_FIRST = ("Size", "Shape")
_BLOCKED = "com.microsoft.nchwc"
_DIGITS = re.compile(r"\d+")


def execution_order(graph: Graph, original: Graph) -> list[Node]:
    """The nodes of `graph` in the order in which they run.

    Args:
        graph: As onnxruntime has optimised it.
        original: As it was exported.
    """
    numbers = _numbers(graph.nodes, original.nodes)
    makers = {name: place for place, node in enumerate(graph.nodes) for name in node.outputs if name}
    waiting: list[int] = []
    users: dict[int, list[int]] = defaultdict(list)
    for place, node in enumerate(graph.nodes):
        needed = {makers[name] for name in (*node.inputs, *outer_values(node)) if name in makers}
        waiting.append(len(needed))
        for maker in needed:
            users[maker].append(place)
    ready = [(_rank(graph.nodes[place], numbers[place]), place) for place, count in enumerate(waiting) if not count]
    heapq.heapify(ready)
    order = []
    while ready:
        place = heapq.heappop(ready)[1]
        order.append(graph.nodes[place])
        for user in users[place]:
            waiting[user] -= 1
            if not waiting[user]:
                heapq.heappush(ready, (_rank(graph.nodes[user], numbers[user]), user))
    return order


def outer_values(node: Node) -> set[str]:
    """Names that the nested graphs of a node take from outside."""
    names: set[str] = set()
    for _, graph in node.graphs:
        made = {*graph.initializers, *graph.inputs, *(name for inner in graph.nodes for name in inner.outputs)}
        taken = {name for inner in graph.nodes for name in (*inner.inputs, *outer_values(inner))}
        names |= ({*taken, *graph.outputs}) - made - {""}
    return names


def _rank(node: Node, number: tuple[int, int, int]) -> tuple[bool, tuple[int, int, int]]:
    return node.op not in _FIRST, number


def _numbers(nodes: Sequence[Node], original: Sequence[Node]) -> list[tuple[int, int, int]]:
    """What stands for each node's number: (pass, place within the pass, tie)."""
    known: Mapping[tuple[str, str, str], int] = {
        (node.name, node.op, node.domain): place for place, node in enumerate(original)
    }
    makers = {name: place for place, node in enumerate(original) for name in node.outputs}
    numbers = []
    for place, node in enumerate(nodes):
        number = known.get((node.name, node.op, node.domain))
        numbers.append((0, number, 0) if number is not None else (*_made_by(node, makers), place))
    return numbers


def _made_by(node: Node, makers: Mapping[str, int]) -> tuple[int, int]:
    """Which optimisation made a node, and its place among those, as far as its names say.

    The reordering of outputs is numbered by a table whose order is another one in each process. Here its place is that
    of the operator that made the tensor in the original graph: one order out of many, but always the same.
    """
    if node.op == "ReorderOutput":  # made when the blocked layout is complete
        return 6, makers.get(node.outputs[0], 0)
    if node.domain == _BLOCKED:
        return 5, makers.get(node.name.removesuffix("_nchwc") if node.op == "Conv" else node.inputs[0], 0)
    if node.op == "FusedConv":
        return 7, makers.get(node.outputs[0], 0)
    if node.domain:
        return 4, 0
    digits = _DIGITS.search(node.name)
    count = int(digits[0]) if digits else 0
    return {"Reshape": (1, count), "Squeeze": (2, count)}.get(node.op, (3, 0))
