"""Keep a node from running before a gradient is there."""

from collections.abc import Sequence
from typing import Any, Protocol

import onnx_ir as ir

__all__ = ["Writer", "hold_back"]


class Writer(Protocol):
    """What adds nodes to a graph: `GraphBuilder` while it is made, `Rewriter` afterwards."""

    def op(self, op_type: str, *inputs: ir.Value | None, **attributes: Any) -> ir.Value: ...

    def ints(self, *numbers: int) -> ir.Value: ...


def hold_back(g: Writer, x: ir.Value, shape: Sequence[int], gradient: ir.Value, rank: int) -> ir.Value:
    """`x`, but not before `gradient` is there.

    A Reshape that changes nothing, to a shape in which the gradient seems to have a say: no copy, and no optimiser can
    see through it.

    Args:
        g: Where to write.
        x: Of any element type.
        shape: Of `x`.
        gradient: float32, whatever its shape.
        rank: Of `gradient`.
    """
    one = g.op("Slice", gradient, g.ints(*[0] * rank), g.ints(*[1] * rank), g.ints(*range(rank)))
    nothing = g.op("Mul", g.op("Cast", g.op("Reshape", one, g.ints(1)), to=ir.DataType.INT64.value), g.ints(0))
    held = g.op("Reshape", x, g.op("Add", g.ints(*shape), nothing))
    held.shape, held.type = ir.Shape(list(shape)), x.type or ir.TensorType(ir.DataType.FLOAT)
    return held
