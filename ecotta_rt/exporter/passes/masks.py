"""Choose a form for the masks that the frozen ReLUs keep for the backward.

Requires: Pack and Unpack nodes of the domain `ecotta.mask`, as `lowering.py` writes them.
Ensures: none are left; what lives from forward to backward is one bool an element, and a byte for a sign.

    Unpack(Pack(x)) * g                       ->  Where(mask, g, 0)
    Unpack(Pack(d > 0)) - Unpack(Pack(d < 0)) ->  Sign(d), as int8
    Unpack(Pack(x)) elsewhere                 ->  Cast(mask)
"""

import math
from typing import Any

import onnx_ir as ir

from ecotta_rt.exporter.builder import MASK_DOMAIN
from ecotta_rt.exporter.held import hold_back
from ecotta_rt.exporter.rewriter import Rewriter

__all__ = ["choose_masks"]


def choose_masks(model: ir.Model) -> None:
    """Replace every Pack and Unpack in place."""
    rewriter = Rewriter(model.graph)
    for node in list(model.graph):
        if node.domain == MASK_DOMAIN and node.op_type == "Unpack":
            _replace_unpack(rewriter, node)
    rewriter.remove_dead_nodes()
    model.graph.opset_imports.pop(MASK_DOMAIN, None)


def _replace_unpack(r: Rewriter, unpack: ir.Node) -> None:
    if unpack.graph is None:  # gone already, as half of a sign
        return
    for user in list(unpack.outputs[0].consumers()):
        if user.op_type == "Sub" and _is_sign(user):
            _replace_sign(r, user)
    for user in list(unpack.outputs[0].consumers()):
        if user.op_type == "Mul":
            gradient = next(value for value in user.inputs if value is not unpack.outputs[0])
            mask = _mask(r, _packed(unpack))
            with r.before(user):
                r.replace(user, r.op("Where", mask, gradient, r.scalar(0.0)))
    if unpack.outputs[0].consumers():
        mask = _mask(r, _packed(unpack))
        with r.before(unpack):
            r.replace(unpack, r.op("Cast", mask, to=ir.DataType.FLOAT.value))


def _packed(unpack: ir.Node) -> ir.Node:
    source = unpack.inputs[0]
    pack = None if source is None else source.producer()
    assert pack is not None and pack.op_type == "Pack", "Unpack reads what Pack wrote"
    return pack


def _mask(r: Rewriter, pack: ir.Node) -> ir.Value:
    """Low < x < high as a bool tensor, made right behind x, once."""
    known = r.memory.get(pack)
    if known is None:
        x, low, high = pack.inputs[0], _bound(pack, "low"), _bound(pack, "high")
        with r.before(pack):
            tests: list[ir.Value] = []
            if low > -math.inf:
                tests.append(r.op("Greater", x, r.scalar(low)))
            if high < math.inf:
                tests.append(r.op("Less", x, r.scalar(high)))
            known = tests[0] if len(tests) == 1 else r.op("And", *tests)
        r.memory[pack] = known
    return known


def _bound(pack: ir.Node, name: str) -> float:
    value: Any = pack.attributes[name].value
    return float(value)


def _is_sign(sub: ir.Node) -> bool:
    makers = [None if value is None else value.producer() for value in sub.inputs]
    if any(maker is None or maker.op_type != "Unpack" for maker in makers):
        return False
    above, below = (_packed(maker) for maker in makers if maker is not None)
    bounds = [(_bound(p, "low"), _bound(p, "high")) for p in (above, below)]
    return above.inputs[0] is below.inputs[0] and bounds == [(0.0, math.inf), (-math.inf, 0.0)]


def _replace_sign(r: Rewriter, sub: ir.Node) -> None:
    unpack = sub.inputs[0].producer() if sub.inputs[0] is not None else None
    assert unpack is not None
    pack = _packed(unpack)
    with r.before(pack):
        # One byte an element from here to the backward, not four.
        small = r.op("Cast", r.op("Sign", pack.inputs[0]), to=ir.DataType.INT8.value)
        small.type = ir.TensorType(ir.DataType.INT8)
    for mul in list(sub.outputs[0].consumers()):
        _expand_late(r, mul, sub.outputs[0], small)
    if sub.outputs[0].consumers():
        with r.before(sub):
            r.replace(sub, r.op("Cast", small, to=ir.DataType.FLOAT.value))


def _expand_late(r: Rewriter, mul: ir.Node, sign: ir.Value, small: ir.Value) -> None:
    """Make the float sign where its gradient joins another: made early, it would wait at four bytes an element."""
    joins = list(mul.outputs[0].consumers())
    if mul.op_type != "Mul" or len(joins) != 1 or joins[0].op_type != "Add" or mul.outputs[0].shape is None:
        return
    other = next((value for value in joins[0].inputs if value is not mul.outputs[0]), None)
    scale = next((value for value in mul.inputs if value is not sign), None)
    if other is None or scale is None or other.shape is None:
        return
    with r.before(joins[0]):
        held = hold_back(r, small, mul.outputs[0].shape.numpy(), other, math.prod(other.shape.numpy()))
        r.replace(mul, r.op("Mul", r.op("Cast", held, to=ir.DataType.FLOAT.value), scale))
