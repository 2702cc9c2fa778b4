"""Arithmetic, comparison, reductions, linear algebra, shapes and masks, as ONNX."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from torch import Tensor, fx

from ecotta_rt.exporter.builder import MASK_DOMAIN, RECOMPUTED, GraphBuilder, constant_of
from ecotta_rt.exporter.held import hold_back
from ecotta_rt.exporter.rules.registry import Rule, dtype_of, is_number, rule, shape_at

__all__: list[str] = []


def _tensor(g: GraphBuilder, value: Any, like: fx.Node | None = None) -> ir.Value:
    """`value` as a float tensor, or of the type of the result `like`: torch promotes operands, ONNX does not."""
    if not isinstance(value, ir.Value):
        return g.scalar(value)
    if like is None or value.type is None or value.dtype == dtype_of(like):
        return value
    return g.op("Cast", value, to=dtype_of(like).value)


def _stands_for(value: Any, node: fx.Node) -> bool:
    """Whether `value` may be handed on as the result: zeros and ones may have broadcast it, or promoted its type."""
    if not isinstance(value, ir.Value) or value.shape is None or value.dtype != dtype_of(node):
        return False
    return tuple(value.shape.numpy()) == shape_at(node)


# Arithmetic


@rule("aten.add")
def _add(g: GraphBuilder, node: fx.Node, a: Any, b: Any, alpha: float = 1) -> ir.Value:
    if is_number(a, 0) and alpha == 1 and _stands_for(b, node):
        return b  # type: ignore[no-any-return]
    if is_number(b, 0) and _stands_for(a, node):
        return a  # type: ignore[no-any-return]
    return g.op("Add", _tensor(g, a, node), _times(g, node, b, alpha))


@rule("aten.sub")
def _sub(g: GraphBuilder, node: fx.Node, a: Any, b: Any, alpha: float = 1) -> ir.Value:
    return g.op("Sub", _tensor(g, a, node), _times(g, node, b, alpha))


def _times(g: GraphBuilder, like: fx.Node, value: Any, alpha: float) -> ir.Value:
    value = _tensor(g, value, like)
    return value if alpha == 1 else g.op("Mul", value, g.scalar(alpha))


@rule("aten.rsub")
def _rsub(g: GraphBuilder, node: fx.Node, a: Any, b: Any, alpha: float = 1) -> ir.Value:
    return g.op("Sub", _tensor(g, b, node), _times(g, node, a, alpha))


@rule("aten.mul")
def _mul(g: GraphBuilder, node: fx.Node, a: Any, b: Any) -> ir.Value:
    booleans = node.meta["val"].dtype == torch.bool
    for one, other in ((a, b), (b, a)):
        if not booleans and is_number(one, 1) and _stands_for(other, node):
            return other  # type: ignore[no-any-return]
    return g.op("And" if booleans else "Mul", _tensor(g, a, node), _tensor(g, b, node))


@rule("aten.div")
def _div(g: GraphBuilder, node: fx.Node, a: Any, b: Any) -> ir.Value:
    return g.op("Div", _tensor(g, a, node), _tensor(g, b, node))


@rule("aten.pow")
def _pow(g: GraphBuilder, node: fx.Node, a: Any, exponent: Any) -> ir.Value:
    if not isinstance(exponent, ir.Value) and exponent == 2:
        return g.op("Mul", a, a)
    if not isinstance(exponent, ir.Value) and exponent == -2:
        return g.op("Reciprocal", g.op("Mul", a, a))
    return g.op("Pow", _tensor(g, a, node), _tensor(g, exponent, node))


@rule("aten.rsqrt")
def _rsqrt(g: GraphBuilder, node: fx.Node, a: ir.Value) -> ir.Value:
    return g.op("Reciprocal", g.op("Sqrt", a))


def _unary(op_type: str) -> Rule:
    return lambda g, node, a, *_, **__: g.op(op_type, a)


for _op in "Neg Exp Log Sqrt Abs Reciprocal Erf Sign Floor".split():
    rule(f"aten.{_op.lower()}")(_unary(_op))
rule("aten.logical_not", "aten.bitwise_not")(_unary("Not"))
rule("aten.sgn")(_unary("Sign"))


@rule("aten.maximum")
def _maximum(g: GraphBuilder, node: fx.Node, a: ir.Value, b: ir.Value) -> ir.Value:
    return g.op("Max", a, b)


@rule("aten.minimum")
def _minimum(g: GraphBuilder, node: fx.Node, a: ir.Value, b: ir.Value) -> ir.Value:
    return g.op("Min", a, b)


# Comparison and selection


def _comparison(op_type: str) -> Rule:
    def compare(g: GraphBuilder, node: fx.Node, a: ir.Value, b: Any) -> ir.Value:
        source: Any = node.args[0]
        # A number compared with an int64 tensor must be int64 in ONNX.
        if not isinstance(b, ir.Value):
            b = g.constant(b, np.int64 if source.meta["val"].dtype == torch.int64 else np.float32)
        return g.op("Not", g.op("Equal", a, b)) if op_type == "ne" else g.op(op_type, a, b)

    return compare


for _target, _op in {"gt": "Greater", "lt": "Less", "ge": "GreaterOrEqual", "le": "LessOrEqual"}.items():
    rule(f"aten.{_target}")(_comparison(_op))
rule("aten.eq")(_comparison("Equal"))
rule("aten.ne")(_comparison("ne"))


@rule("aten.where")
def _where(g: GraphBuilder, node: fx.Node, condition: ir.Value, a: Any, b: Any) -> ir.Value:
    return g.op("Where", condition, _tensor(g, a, node), _tensor(g, b, node))


@rule("aten.masked_fill")
def _masked_fill(g: GraphBuilder, node: fx.Node, a: ir.Value, mask: ir.Value, number: Any) -> ir.Value:
    return g.op("Where", mask, _tensor(g, number, node), a)


@rule("aten.bitwise_and", "aten.logical_and")
def _and(g: GraphBuilder, node: fx.Node, a: ir.Value, b: ir.Value) -> ir.Value:
    return g.op("And", a, b)


@rule("aten.bitwise_or", "aten.logical_or")
def _or(g: GraphBuilder, node: fx.Node, a: ir.Value, b: ir.Value) -> ir.Value:
    return g.op("Or", a, b)


# Reductions


@rule("aten.sum", "aten.mean")
def _reduce(g: GraphBuilder, node: fx.Node, a: ir.Value, axes: Any = None, keepdim: bool = False, **_: Any) -> ir.Value:
    source: Any = node.args[0]
    if source.meta["val"].dtype == torch.bool:
        a = g.op("Cast", a, to=dtype_of(node).value)
    axes = [axes] if isinstance(axes, int) else list(axes or range(len(shape_at(source))))  # torch: none means all
    op_type = "ReduceMean" if str(node.target).startswith("aten.mean") else "ReduceSum"
    return g.op(op_type, a, g.ints(*axes), keepdims=int(keepdim)) if axes else a


@rule("aten._log_softmax")
def _log_softmax(g: GraphBuilder, node: fx.Node, a: ir.Value, axis: int, half: bool) -> ir.Value:
    return g.op("LogSoftmax", a, axis=axis)


@rule("aten._log_softmax_backward_data")
def _log_softmax_backward(
    g: GraphBuilder, node: fx.Node, gradient: ir.Value, out: ir.Value, axis: int, dtype: Any
) -> ir.Value:
    total = g.op("ReduceSum", gradient, g.ints(axis), keepdims=1)
    return g.op("Sub", gradient, g.op("Mul", g.op("Exp", out), total))


@rule("aten._softmax")
def _softmax(g: GraphBuilder, node: fx.Node, a: ir.Value, axis: int, half: bool) -> ir.Value:
    return g.op("Softmax", a, axis=axis)


@rule("aten._softmax_backward_data")
def _softmax_backward(
    g: GraphBuilder, node: fx.Node, gradient: ir.Value, out: ir.Value, axis: int, dtype: Any
) -> ir.Value:
    total = g.op("ReduceSum", g.op("Mul", gradient, out), g.ints(axis), keepdims=1)
    return g.op("Mul", out, g.op("Sub", gradient, total))


# Linear algebra


@rule("aten.mm", "aten.bmm", "aten.matmul")
def _mm(g: GraphBuilder, node: fx.Node, a: ir.Value, b: ir.Value) -> ir.Value:
    return g.op("MatMul", a, b)


@rule("aten.addmm")
def _addmm(
    g: GraphBuilder, node: fx.Node, bias: ir.Value, a: ir.Value, b: ir.Value, *, alpha: float = 1, beta: float = 1
) -> ir.Value:
    return g.op("Gemm", a, b, bias, alpha=float(alpha), beta=float(beta))


@rule("aten.t")
def _t(g: GraphBuilder, node: fx.Node, a: ir.Value) -> ir.Value:
    array = constant_of(a)
    return g.op("Transpose", a, perm=[1, 0]) if array is None else g.constant(array.T)


@rule("aten.permute", "aten.transpose")
def _permute(g: GraphBuilder, node: fx.Node, a: ir.Value, *axes: Any) -> ir.Value:
    source: Any = node.args[0]
    order = list(range(len(shape_at(source))))
    if len(axes) == 2:
        order[axes[0]], order[axes[1]] = order[axes[1]], order[axes[0]]
    else:
        order = [axis % len(order) for axis in axes[0]]
    return g.op("Transpose", a, perm=order)


# Shapes


@rule("aten.detach", "aten.clone", "aten.alias", "aten.lift_fresh_copy", "aten.contiguous")
def _same(g: GraphBuilder, node: fx.Node, a: ir.Value, *_: Any, **__: Any) -> ir.Value:
    return a


@rule("aten._to_copy", "aten.to")
def _cast(g: GraphBuilder, node: fx.Node, a: ir.Value, *_: Any, **__: Any) -> ir.Value:
    source: Any = node.args[0]
    same = source.meta["val"].dtype == node.meta["val"].dtype
    return a if same else g.op("Cast", a, to=dtype_of(node).value)


@rule("aten.view", "aten.reshape", "aten._unsafe_view", "aten.unsqueeze", "aten.squeeze", "aten.flatten")
def _reshape(g: GraphBuilder, node: fx.Node, a: ir.Value, *_: Any, **__: Any) -> ir.Value:
    source: Any = node.args[0]
    return a if shape_at(source) == shape_at(node) else g.op("Reshape", a, g.ints(*shape_at(node)))


@rule("aten.expand")
def _expand(g: GraphBuilder, node: fx.Node, a: ir.Value, *_: Any, **__: Any) -> ir.Value:
    return g.op("Expand", a, g.ints(*shape_at(node)))


@rule("aten.split_with_sizes", "aten.split")
def _split(g: GraphBuilder, node: fx.Node, a: ir.Value, sizes: Any, axis: int = 0) -> tuple[ir.Value, ...]:
    pieces = [int(piece.shape[axis]) for piece in node.meta["val"]]  # `sizes` may be one number for all
    return g.ops("Split", len(pieces), a, g.ints(*pieces), axis=axis)


@rule("aten.cat")
def _cat(g: GraphBuilder, node: fx.Node, parts: Sequence[ir.Value], axis: int = 0) -> ir.Value:
    return parts[0] if len(parts) == 1 else g.op("Concat", *parts, axis=axis)


@rule("aten.stack")
def _stack(g: GraphBuilder, node: fx.Node, parts: Sequence[ir.Value], axis: int = 0) -> ir.Value:
    rows = [g.op("Unsqueeze", part, g.ints(axis)) for part in parts]
    return rows[0] if len(rows) == 1 else g.op("Concat", *rows, axis=axis)


@rule("aten.select")
def _select(g: GraphBuilder, node: fx.Node, a: ir.Value, axis: int, index: int) -> ir.Value:
    return g.op("Gather", a, g.constant(index, np.int64), axis=axis)


@rule("aten.slice")
def _slice(
    g: GraphBuilder, node: fx.Node, a: ir.Value, axis: int = 0, start: Any = None, stop: Any = None, step: int = 1
) -> ir.Value:
    source: Any = node.args[0]
    if shape_at(source) == shape_at(node):
        return a
    first, last = start or 0, 2**62 if stop is None else stop
    return g.op("Slice", a, g.ints(first), g.ints(last), g.ints(axis), g.ints(step))


@rule("aten.slice_backward")
def _slice_backward(
    g: GraphBuilder,
    node: fx.Node,
    gradient: ir.Value,
    sizes: Sequence[int],
    axis: int,
    start: int,
    stop: int,
    step: int,
) -> ir.Value:
    """Zeros between the slice's rows where it left some out, then before and after them."""
    source: Any = node.args[0]
    shape, rank = list(shape_at(source)), len(sizes)
    axis, size = axis % rank, sizes[axis]
    first = min(max(start + size if start < 0 else start, 0), size)
    if step > 1:
        gaps = g.ints(*[0] * (2 * (rank + 1) - rank + axis), step - 1, *[0] * (rank - axis - 1))
        spread = g.op("Pad", g.op("Reshape", gradient, g.ints(*shape[: axis + 1], 1, *shape[axis + 1 :])), gaps)
        shape[axis] *= step
        gradient = g.op("Reshape", spread, g.ints(*shape))
    before, after = [0] * rank, [0] * rank
    before[axis], after[axis] = first, size - first - shape[axis]
    return g.op("Pad", gradient, g.ints(*before, *after)) if any(before) or any(after) else gradient


@rule("aten.select_backward")
def _select_backward(
    g: GraphBuilder, node: fx.Node, gradient: ir.Value, sizes: Sequence[int], axis: int, index: int
) -> ir.Value:
    axis, size = axis % len(sizes), sizes[axis]
    before, after = [0] * len(sizes), [0] * len(sizes)
    before[axis], after[axis] = index % size, size - 1 - index % size
    return g.op("Pad", g.op("Unsqueeze", gradient, g.ints(axis)), g.ints(*before, *after))


@rule("aten.constant_pad_nd")
def _pad(g: GraphBuilder, node: fx.Node, a: ir.Value, pads: Sequence[int], value: float = 0.0) -> ir.Value:
    rank = len(shape_at(node))
    before, after = [0] * rank, [0] * rank
    for i in range(len(pads) // 2):  # torch counts from the last axis
        before[rank - 1 - i], after[rank - 1 - i] = pads[2 * i], pads[2 * i + 1]
    return g.op("Pad", a, g.ints(*before, *after), g.scalar(value))


def _filled(number: float) -> Rule:
    def fill(g: GraphBuilder, node: fx.Node, *_: Any, **__: Any) -> ir.Value:
        value: Tensor = node.meta["val"]
        return g.constant(np.full(tuple(value.shape), number, torch.empty(0, dtype=value.dtype).numpy().dtype))

    return fill


rule("aten.zeros_like", "aten.zeros", "aten.new_zeros")(_filled(0))
rule("aten.ones_like", "aten.ones")(_filled(1))
rule("aten.empty", "aten.empty_like")(_filled(0))  # torch's own kernels return these beside their results, unread


@rule("aten.full", "aten.full_like", "aten.scalar_tensor")
def _full(g: GraphBuilder, node: fx.Node, first: Any, number: Any = None, *_: Any, **__: Any) -> ir.Value:
    number = first if number is None else number
    filled: ir.Value = _filled(number)(g, node)
    return filled


# Masks


@rule("ecotta.pack_between")
def _pack_between(g: GraphBuilder, node: fx.Node, x: ir.Value, low: float, high: float) -> ir.Value:
    return g.op("Pack", x, domain=MASK_DOMAIN, low=float(low), high=float(high))


@rule("ecotta.unpack")
def _unpack(
    g: GraphBuilder, node: fx.Node, bits: ir.Value, shape: Sequence[int], channels_last: bool, dtype: Any
) -> ir.Value:
    return g.op("Unpack", bits, domain=MASK_DOMAIN, shape=list(shape))


@rule("ecotta.hold_back")
def _hold_back(g: GraphBuilder, node: fx.Node, x: ir.Value, gradient: ir.Value) -> ir.Value:
    source: Any = node.args[1]
    held = hold_back(g, x, shape_at(node), gradient, math.prod(shape_at(source)))
    maker = held.producer()
    assert maker is not None
    maker.metadata_props[RECOMPUTED] = "1"
    return held
