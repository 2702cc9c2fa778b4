"""How many bytes of tensors a graph keeps alive, node by node, in the order in which it is written.

    model  ->  live_bytes()  ->  Liveness: peak, where it is, who holds it; and what is kept for the backward

A tensor lives from the node that makes it to the last one that reads it; Reshape and its like share their input's
memory. Weights, inputs and outputs of the graph are not counted: they are there before or belong to the caller.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import onnx_ir as ir
import onnx_ir.passes.common as common

from ecotta_rt.exporter.builder import RECOMPUTED, constant_of

__all__ = ["LiveTensor", "Liveness", "infer_shapes", "live_bytes"]

_ALIASES = {"Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity"}


@dataclass(frozen=True)
class LiveTensor:
    """A tensor that is alive at the peak."""

    name: str
    op_type: str
    shape: tuple[int, ...]
    size_bytes: int
    born: int
    dies: int


@dataclass(frozen=True)
class Liveness:
    """What `live_bytes` found.

    Attributes:
        by_node: Live bytes while each node runs, its outputs included.
        peak_bytes: The largest of them.
        peak_node: Its index.
        tenants: What is alive there, largest first.
        activation_bytes: Most bytes of forward tensors (recomputed ones included) that a later backward node reads, or
            that are computed from again.
    """

    by_node: tuple[int, ...]
    peak_bytes: int
    peak_node: int
    tenants: tuple[LiveTensor, ...]
    activation_bytes: int


def infer_shapes(model: ir.Model) -> None:
    """Give every value its shape and type, in place; the graph's inputs are of fixed size, so all are known."""
    common.ShapeInferencePass()(model)


def live_bytes(model: ir.Model, forward_outputs: Sequence[str] = ("logits", "entropy_nats")) -> Liveness:
    """Play the graph in its written order.

    Args:
        model: With shapes, see `infer_shapes`.
        forward_outputs: Outputs that the forward pass makes; what comes behind the last of them is backward and update.
    """
    nodes = list(model.graph)
    index = {node: i for i, node in enumerate(nodes)}
    outside = {*model.graph.inputs, *model.graph.outputs}
    born, dies, size = {}, {}, {}
    root: dict[ir.Value, ir.Value] = {}
    for i, node in enumerate(nodes):
        for value in node.outputs:
            shared = node.inputs[0] if node.op_type in _ALIASES else None
            root[value] = value if shared is None else root.get(shared, shared)
        dies.update({root[read]: i for read in node.inputs if read is not None and read in root})
    for value, owner in root.items():
        producer = value.producer()
        if owner is value and value not in outside and producer is not None:
            born[value] = index[producer]
            dies.setdefault(value, born[value])
            size[value] = _size_bytes(value)
    live = [0] * (len(nodes) + 1)
    for value in born:
        live[born[value]] += size[value]
        live[dies[value] + 1] -= size[value]
    by_node = list(accumulate(live[:-1]))
    peak = max(range(len(by_node)), key=by_node.__getitem__, default=0)
    tenants = [
        LiveTensor(str(v.name), str(v.producer().op_type), _shape(v), size[v], born[v], dies[v])  # type: ignore[union-attr]
        for v in born
        if born[v] <= peak <= dies[v]
    ]
    return Liveness(
        tuple(by_node),
        by_node[peak] if by_node else 0,
        peak,
        tuple(sorted(tenants, key=lambda tenant: -tenant.size_bytes)),
        _activation_bytes(model, nodes, root, born, size, forward_outputs),
    )


def _activation_bytes(
    model: ir.Model,
    nodes: list[ir.Node],
    root: dict[ir.Value, ir.Value],
    born: dict[ir.Value, int],
    size: dict[ir.Value, int],
    forward_outputs: Sequence[str],
) -> int:
    named = {value.name: value for value in model.graph.outputs}
    index = {node: i for i, node in enumerate(nodes)}
    makers = [named[name].producer() for name in forward_outputs if name in named]
    last_forward = max((index[maker] for maker in makers if maker is not None), default=-1)
    # Behind the forward pass, what comes of nothing but forward tensors and one that was held back is computed again.
    first, again = set[ir.Value](), set[ir.Value]()
    for i, node in enumerate(nodes):
        needs = {v for v in node.inputs if v is not None and constant_of(v) is None}
        if i <= last_forward:
            first.update(node.outputs)
        elif RECOMPUTED in node.metadata_props or (needs & again and needs <= first | again):
            again.update(node.outputs)
    last_read: dict[ir.Value, int] = {}
    for i, node in enumerate(nodes):
        if i > last_forward:
            repeats = set(node.outputs) <= again
            read = {root[v] for v in node.inputs if v is not None and root.get(v) in born}
            # What a second computation makes for itself alone is not kept; what it starts from is.
            last_read.update({value: i for value in read if not repeats or value in first})
    changes = [0] * (len(nodes) + 1)
    for value in born:
        if value in first | again and value in last_read:
            changes[born[value]] += size[value]
            changes[last_read[value] + 1] -= size[value]
    return max(accumulate(changes), default=0)


def _shape(value: ir.Value) -> tuple[int, ...]:
    sides = () if value.shape is None else tuple(value.shape)
    if value.shape is None or not all(isinstance(side, int) for side in sides):
        raise ValueError(f"{value.name} is of unknown shape {sides}: its bytes cannot be counted")
    return tuple(int(side) for side in sides)  # type: ignore[arg-type]


def _size_bytes(value: ir.Value) -> int:
    if value.dtype is None:
        raise ValueError(f"{value.name} is of unknown type: its bytes cannot be counted")
    return int(math.prod(_shape(value)) * value.dtype.itemsize)
