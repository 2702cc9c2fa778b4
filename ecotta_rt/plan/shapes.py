"""Shapes that onnxruntime's optimised graphs leave unsaid: those of its blocked layout.

A tensor in the blocked layout (NCHWc) holds N, C, H, W with C rounded up to whole blocks of 8 or 16 channels. Only its
own operators make and take it, and operators that work on each element.

Source: onnxruntime/core/optimizer/nchwc_transformer.cc and contrib_ops/cpu/nchwc_ops.cc.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ecotta_rt.files.onnx_graph import Graph, Node, Value

__all__ = ["Tensor", "block_channels", "said_tensors", "shapes_of"]

_BLOCKED = "com.microsoft.nchwc"
_FLOAT_BYTES = 4
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Tensor:
    """A tensor on paper.

    Attributes:
        item_bytes: Of one element.
        shape: Its dimensions; None where nobody knows them.
    """

    item_bytes: int
    shape: Shape | None

    @property
    def bytes(self) -> int:
        """Its size; 0 where the shape is not known."""
        return 0 if self.shape is None else self.item_bytes * math.prod(self.shape)


def said_tensors(graph: Graph) -> dict[str, Tensor]:
    """The tensors of which the graph itself says something, by name."""
    said: dict[str, Value] = {name: weight.value for name, weight in graph.initializers.items()} | {**graph.values}
    return {name: Tensor(value.item_bytes, value.sizes) for name, value in said.items()}


def shapes_of(graph: Graph, nodes: Sequence[Node], block: int) -> dict[str, Tensor]:
    """Every tensor of the graph, those of the blocked layout included.

    Args:
        graph: The graph.
        nodes: Its nodes in an order in which they can run.
        block: Channels of a block.

    Returns:
        By name. One that stays unknown has no shape.
    """
    known = said_tensors(graph)
    for node in nodes:
        for name in node.outputs:
            if name and known.get(name, Tensor(0, None)).shape is None:
                known[name] = Tensor(_FLOAT_BYTES, _inferred(node, known, block))
    return known


def block_channels(graph: Graph) -> int:
    """Channels of a block in the blocked layout; 0 where the graph does not use it.

    Its convolutions' weights are [M, C / groups, height, width] with M rounded up to blocks, and their biases too; so
    the block is the largest of 16 and 8 that divides them all.
    """
    convolutions = [node for node in graph.nodes if (node.domain, node.op) == (_BLOCKED, "Conv")]
    weights = [graph.initializers[node.inputs[1]].value.sizes for node in convolutions]
    filters = [shape[0] for shape in weights if shape]
    if not filters:
        return 0
    return 16 if all(count % 16 == 0 for count in filters) else 8


def _inferred(node: Node, known: Mapping[str, Tensor], block: int) -> Shape | None:
    shapes = [known[name].shape if name in known else None for name in node.inputs]
    first = shapes[0] if shapes else None
    if first is None:
        return None
    if node.op == "ReorderInput":
        channels_last = bool(node.attributes.get("channels_last", 0))
        n, c, h, w = (first[0], first[3], *first[1:3]) if channels_last else first
        return n, -(-c // block) * block, h, w
    if (node.domain, node.op) == (_BLOCKED, "Conv"):
        weight = shapes[1]
        return None if weight is None else (first[0], weight[0], *_window_output(node, first[2:], weight[2:]))
    if node.domain == _BLOCKED and node.op in ("MaxPool", "AveragePool"):
        return *first[:2], *_window_output(node, first[2:], _ints(node, "kernel_shape", ()))
    if node.op == "GlobalAveragePool" or node.op == "GlobalMaxPool":
        return *first[:2], 1, 1
    if node.op == "Split":
        axis, parts = int(node.attributes.get("axis", 0)), len(node.outputs)  # type: ignore[arg-type]
        return *first[:axis], -(-first[axis] // parts), *first[axis + 1 :]
    return max((shape for shape in shapes if shape is not None), key=len)  # element by element


def _window_output(node: Node, sides: Sequence[int], window: Sequence[int]) -> Shape:
    rank = len(sides)
    pads = _ints(node, "pads", (0,) * (2 * rank))
    strides, dilations = _ints(node, "strides", (1,) * rank), _ints(node, "dilations", (1,) * rank)
    padded = [side + pads[axis] + pads[axis + rank] for axis, side in enumerate(sides)]
    return tuple((padded[axis] - dilations[axis] * (window[axis] - 1) - 1) // strides[axis] + 1 for axis in range(rank))


def _ints(node: Node, name: str, otherwise: Shape) -> Shape:
    value = node.attributes.get(name)
    return value if isinstance(value, tuple) and value else otherwise
