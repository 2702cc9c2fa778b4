"""Keep a node from running before a gradient is there."""

from collections.abc import Sequence
from typing import Any, Protocol

import onnx_ir as ir

__all__ = ["Writer", "hold_back", "shape_after"]


class Writer(Protocol):
    """What adds nodes to a graph: `GraphBuilder` while it is made, `Rewriter` afterwards."""

    def op(self, op_type: str, *inputs: ir.Value | None, **attributes: Any) -> ir.Value: ...

    def ints(self, *numbers: int) -> ir.Value: ...


def hold_back(g: Writer, x: ir.Value, shape: Sequence[int], gradient: ir.Value, count: int) -> ir.Value:
    """`x`, but not before `gradient` is there.

    A Reshape that changes nothing, to a shape that is worked out from how many numbers the gradient has: no copy, no
    number is read, and onnxruntime, which folds Shape, does not fold Size.

    Args:
        g: Where to write.
        x: Of any element type.
        shape: Of `x`.
        gradient: Whatever its shape.
        count: How many numbers it has.
    """
    same = g.op("Add", g.op("Size", gradient), g.ints(*(side - count for side in shape)))
    held = g.op("Reshape", x, same)
    held.shape, held.type = ir.Shape(list(shape)), x.type or ir.TensorType(ir.DataType.FLOAT)
    return held


def shape_after(g: Writer, shape: Sequence[int], gradient: ir.Value, rank: int) -> ir.Value:
    """`shape` as a tensor that is known only once `gradient` (of this rank) is there."""
    one = g.op("Slice", gradient, g.ints(*[0] * rank), g.ints(*[1] * rank), g.ints(*range(rank)))
    nothing = g.op("Mul", g.op("Cast", g.op("Reshape", one, g.ints(1)), to=ir.DataType.INT64.value), g.ints(0))
    return g.op("Add", g.ints(*shape), nothing)
