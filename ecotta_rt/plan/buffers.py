"""Which tensors share a buffer, and from which node to which each buffer lives: onnxruntime's allocation plan.

For each output, in the order of the run: it takes over the buffer of an input that nobody needs afterwards, where the
operator can work in place; else the buffer of a dead tensor of the same shape, the one that died last; else a new one.
A buffer that waits for its next tenant is not given back meanwhile: that costs memory, so the plan must know it.

Source: onnxruntime/core/framework/allocation_planner.cc, FindReusableInput and FindReusableTensor; which operators work
in place: the kernels' definitions (`MayInplace`, `Alias`) of onnxruntime 1.31.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ecotta_rt.files.onnx_graph import Node
from ecotta_rt.plan.order import outer_values
from ecotta_rt.plan.shapes import Tensor

__all__ = ["Buffer", "plan_buffers"]

_SAME: Mapping[tuple[str, int], int] = {
    **{(op, 0): 0 for op in ("Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity")},
    ("BatchNormalization", 1): 3,
    ("BatchNormalization", 2): 4,
}
"""(operator, output) -> the input whose buffer that output is, whoever else needs it."""

_IN_PLACE = (
    "Relu",
    "Sigmoid",
    "Tanh",
    "HardSigmoid",
    "LeakyRelu",
    "Elu",
    "Selu",
    "Softplus",
    "Softsign",
    "Clip",
    "Cast",
)
"""Operators whose output may take over the buffer of their first input."""

_SUM_INPUT = {("com.microsoft", "FusedConv"): 3, ("com.microsoft.nchwc", "Conv"): 3}
"""Convolutions that add to what is there already."""


@dataclass
class Buffer:
    """One piece of memory.

    Attributes:
        bytes: Its size.
        born: Place in the order of the run before which it is taken.
        died: Place after which it is given back.
        tenants: (place, name, bytes) of each tensor that lives in it, from when.
    """

    bytes: int
    born: int
    died: int
    tenants: list[tuple[int, str, int]] = field(default_factory=list)


def plan_buffers(order: Sequence[Node], values: Mapping[str, Tensor], outside: frozenset[str]) -> list[Buffer]:
    """The buffers of a run.

    Args:
        order: Nodes as they run.
        values: Every tensor.
        outside: Names whose memory is not of the run: inputs, weights, outputs that the caller has bound.

    Returns:
        In the order of their birth.
    """
    return _Planner(order, values, outside).buffers()


class _Planner:
    def __init__(self, order: Sequence[Node], values: Mapping[str, Tensor], outside: frozenset[str]) -> None:
        self._order, self._values, self._outside = order, values, outside
        self._uses = Counter(name for node in order for name in (*node.inputs, *outer_values(node)) if name)
        self._root: dict[str, str] = {}  # tensor -> the tensor that was first in its buffer
        self._dead: list[str] = []  # first tenants whose buffers wait, the last to die at the end
        self._buffers: dict[str, Buffer] = {}

    def buffers(self) -> list[Buffer]:
        for place, node in enumerate(self._order):
            for name in node.outputs:
                if name and name not in self._outside:
                    self._house(place, node, name)
            self._release(place, node)
        return list(self._buffers.values())

    def _house(self, place: int, node: Node, name: str) -> None:
        root = self._input_to_take_over(node, name) or self._dead_one_to_take_over(name)
        size = self._values.get(name, Tensor(0, None)).bytes
        if root is None:
            root = name
            self._buffers[name] = Buffer(size, place, place)
        elif root != name:
            self._uses[root] += self._uses[name]
        self._root[name] = root
        if root in self._buffers:
            buffer = self._buffers[root]
            buffer.tenants.append((place, name, size))
            buffer.died = max(buffer.died, place)

    def _input_to_take_over(self, node: Node, name: str) -> str | None:
        same = None if node.domain else _SAME.get((node.op, node.outputs.index(name)))
        if same is not None and same < len(node.inputs):
            return self._root.get(node.inputs[same], node.inputs[same])
        place = _SUM_INPUT.get((node.domain, node.op), 0 if node.op in _IN_PLACE and not node.domain else None)
        if place is not None and place < len(node.inputs) and node.inputs[place]:
            root = self._root.get(node.inputs[place], node.inputs[place])
            if root in self._buffers and self._uses[root] == 1 and self._same_size(node.inputs[place], name):
                return root
        return None

    def _dead_one_to_take_over(self, name: str) -> str | None:
        # A shape that is unknown, a single number, or, as profiles show, what nobody takes: each has a new buffer.
        if not self._values[name].shape or not self._uses[name]:
            return None
        for position in range(len(self._dead) - 1, -1, -1):
            root = self._dead[position]
            if self._same_size(root, name):
                del self._dead[position]
                return root
        return None

    def _same_size(self, one: str, other: str) -> bool:
        first, second = self._values.get(one), self._values.get(other)
        if first is None or second is None or first.shape is None:
            return False
        return first.shape == second.shape and first.item_bytes == second.item_bytes

    def _release(self, place: int, node: Node) -> None:
        for name in (*node.inputs, *outer_values(node)):
            if not name:
                continue
            root = self._root.get(name, name)
            self._uses[root] -= 1
            if root in self._buffers:
                self._buffers[root].died = place
                if self._uses[root] == 0:
                    self._dead.append(root)
        for name in node.outputs:
            if name and self._uses[self._root.get(name, name)] == 0 and self._root.get(name) in self._buffers:
                self._dead.append(self._root[name])
