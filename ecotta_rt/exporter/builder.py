"""Write ONNX nodes one after the other, as one writes code."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

__all__ = ["MASK_DOMAIN", "OPSET", "RECOMPUTED", "GraphBuilder", "constant_of"]

OPSET = 20
"""Of the standard operators; onnxruntime 1.17 and newer run it."""

MASK_DOMAIN = "ecotta.mask"
"""Pack and Unpack of `bits.py` stand under this domain until the mask pass has chosen a form for them."""


RECOMPUTED = "ecotta.recomputed"
"""Mark on a node from which a stretch of the forward pass is computed again; for the accounting alone."""


class GraphBuilder:
    """Collects nodes, inputs and constants; `finish` makes a graph of them.

    Attributes:
        memory: For a rule to remember what it made.
    """

    def __init__(self) -> None:
        self.memory: dict[Any, Any] = {}
        self._nodes: list[ir.Node] = []
        self._inputs: list[ir.Value] = []
        self._constants: dict[tuple[str, tuple[int, ...], bytes], ir.Value] = {}
        self._count = 0

    def input(self, name: str, dtype: ir.DataType, shape: Sequence[int]) -> ir.Value:
        """Declare an input of the graph."""
        value = ir.Value(name=name, type=ir.TensorType(dtype), shape=ir.Shape(list(shape)))
        self._inputs.append(value)
        return value

    def constant(self, array: Any, dtype: Any = None, name: str | None = None) -> ir.Value:
        """A constant; equal ones are one value."""
        data = np.array(array, dtype=dtype, order="C")
        key = (str(data.dtype), data.shape, data.tobytes())
        if key not in self._constants:
            name = name or f"c{len(self._constants)}"
            tensor = ir.tensor(data, name=name)
            self._constants[key] = ir.Value(
                name=name, type=ir.TensorType(tensor.dtype), shape=ir.Shape(list(data.shape)), const_value=tensor
            )
        return self._constants[key]

    def ints(self, *numbers: int) -> ir.Value:
        """An int64 vector, as shapes and axes want it."""
        return self.constant(numbers, np.int64)

    def scalar(self, number: float) -> ir.Value:
        """A float32 `[]`."""
        return self.constant(number, np.float32)

    def op(self, op_type: str, *inputs: ir.Value | None, domain: str = "", **attributes: Any) -> ir.Value:
        """Add a node with one output, and return that."""
        return self.ops(op_type, 1, *inputs, domain=domain, **attributes)[0]

    def ops(
        self, op_type: str, outputs: int, *inputs: ir.Value | None, domain: str = "", **attributes: Any
    ) -> tuple[ir.Value, ...]:
        """Add a node with several outputs."""
        self._count += 1
        made = [ir.Value(name=f"v{self._count}" + (f"_{i}" if outputs > 1 else "")) for i in range(outputs)]
        # onnx-ir turns plain Python values into attributes, but takes an empty tuple for no type at all.
        given = {name: value for name, value in attributes.items() if value is not None}
        present = list(inputs)
        while present and present[-1] is None:
            # An empty last input means the same as none, but onnxruntime leaves such a Conv out of its fast layout.
            present.pop()
        node = ir.node(op_type, present, given, domain=domain, outputs=made, name=f"{op_type}_{self._count}")
        self._nodes.append(node)
        return tuple(made)

    def finish(self, outputs: Sequence[tuple[str, ir.Value]], name: str) -> ir.Model:
        """The model, with outputs of these names."""
        results = []
        for output, value in outputs:
            # A value that is an input, a constant or an output already gets a node of its own to carry the name.
            if value in self._inputs or value.const_value is not None or value in results:
                value = self.op("Identity", value)
            value.name = output
            results.append(value)
        graph = ir.Graph(
            self._inputs,
            results,
            nodes=self._nodes,
            initializers=list(self._constants.values()),
            opset_imports={"": OPSET, MASK_DOMAIN: 1},
            name=name,
        )
        return ir.Model(graph, ir_version=10, producer_name="ecotta_rt")


def constant_of(value: ir.Value | None) -> NDArray[Any] | None:
    """The array behind a constant value, None for anything else."""
    tensor = None if value is None else value.const_value
    return None if tensor is None else tensor.numpy()
