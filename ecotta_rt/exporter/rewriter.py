"""What every graph pass needs: new nodes in the right place, one value for another, dead nodes out."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import onnx_ir as ir

__all__ = ["Rewriter"]


class Rewriter:
    """Edits one graph in place.

    Attributes:
        memory: For a pass to remember what it made for a node.
    """

    def __init__(self, graph: ir.Graph) -> None:
        self.graph = graph
        self.memory: dict[Any, Any] = {}
        self._anchor: ir.Node | None = None
        self._taken = {value.name for node in graph for value in node.outputs} | set(graph.initializers)
        self._count = 0
        self._scalars: dict[tuple[str, bytes], ir.Value] = {}

    @contextmanager
    def before(self, node: ir.Node) -> Iterator[None]:
        """Within it, new nodes are inserted before `node`."""
        outer, self._anchor = self._anchor, node
        try:
            yield
        finally:
            self._anchor = outer

    def op(self, op_type: str, *inputs: ir.Value | None, **attributes: Any) -> ir.Value:
        """Insert a node with one output."""
        return self.ops(op_type, 1, *inputs, **attributes)[0]

    def ops(self, op_type: str, outputs: int, *inputs: ir.Value | None, **attributes: Any) -> tuple[ir.Value, ...]:
        """Insert a node with several outputs."""
        assert self._anchor is not None, "inside `with rewriter.before(node)`"
        made = [ir.Value(name=self._name()) for _ in range(outputs)]
        node = ir.node(op_type, list(inputs), attributes, outputs=made, name=f"{op_type}_{made[0].name}")
        self.graph.insert_before(self._anchor, node)
        return tuple(made)

    def constant(self, array: Any, dtype: Any = None) -> ir.Value:
        """A constant, once for equal ones."""
        data = np.array(array, dtype=dtype, order="C")
        key = (f"{data.dtype}{data.shape}", data.tobytes())
        if key not in self._scalars:
            name = self._name()
            tensor = ir.tensor(data, name=name)
            value = ir.Value(
                name=name, type=ir.TensorType(tensor.dtype), shape=ir.Shape(list(data.shape)), const_value=tensor
            )
            self.graph.register_initializer(value)
            self._scalars[key] = value
        return self._scalars[key]

    def scalar(self, number: float) -> ir.Value:
        """A float32 `[]`."""
        return self.constant(number, np.float32)

    def ints(self, *numbers: int) -> ir.Value:
        """An int64 vector."""
        return self.constant(numbers, np.int64)

    def replace(self, node: ir.Node, *values: ir.Value) -> None:
        """Let everybody who reads `node` read `values`, and remove it."""
        for old, new in zip(node.outputs, values, strict=True):
            name = old.name if old in self.graph.outputs else None
            if name is not None and (
                new in self.graph.inputs or new in self.graph.outputs or new.const_value is not None
            ):
                with self.before(node):
                    new = self.op("Identity", new)
            if new.shape is None and old.type is not None:
                new.shape, new.type = old.shape, old.type
            ir.convenience.replace_all_uses_with(old, new, replace_graph_outputs=True)
            if name is not None:
                old.name, new.name = None, name
        self.graph.remove(node, safe=True)

    def remove_dead_nodes(self) -> None:
        """Remove nodes whose results nobody reads, and constants that nobody reads."""
        outputs = set(self.graph.outputs)
        for node in reversed(list(self.graph)):
            if not any(value.consumers() or value in outputs for value in node.outputs):
                self.graph.remove(node, safe=True)
        for name, value in list(self.graph.initializers.items()):
            if not value.consumers() and value not in outputs:
                del self.graph.initializers[name]

    def _name(self) -> str:
        self._count += 1
        while f"r{self._count}" in self._taken:
            self._count += 1
        name = f"r{self._count}"
        self._taken.add(name)
        return name
