"""Fold a constant scale a channel into the constant weights of the convolution before it.

Requires: constants computed (`fold_constants`), masks chosen.
Ensures: Mul(Conv(g, W), s) and Mul(Where(mask, Conv(g, W), 0), s) with constant W [O, ...] and s [O, 1, 1] are
Conv(g, s W) without the Mul; likewise for ConvTranspose, whose W is [I, O, ...]. Grouped convolutions,
such of other than two dimensions, and weights or results that others read too are left alone.

In `source` mode every frozen norm's gradient is such a Mul.
"""

from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from ecotta_rt.prepare.export.builder import constant_of
from ecotta_rt.prepare.export.rewriter import Rewriter

__all__ = ["fold_scales"]


def fold_scales(model: ir.Model) -> None:
    """Rewrite `model` in place."""
    rewriter = Rewriter(model.graph)
    for node in list(model.graph):
        if node.op_type == "Mul":
            _fold(rewriter, node)
    rewriter.remove_dead_nodes()


def _fold(r: Rewriter, mul: ir.Node) -> None:
    for scaled, scale in (mul.inputs, reversed(mul.inputs)):
        factors = _by_channel(scale)
        if scaled is None or factors is None or not _read_once(scaled):
            continue
        conv = scaled.producer()
        if conv is not None and conv.op_type == "Where":
            inner = conv.inputs[1]
            zero = constant_of(conv.inputs[2])
            if inner is None or zero is None or zero.any() or not _read_once(inner):
                continue
            conv = inner.producer()
        if conv is None or conv.op_type not in ("Conv", "ConvTranspose") or len(conv.inputs) != 2:
            continue
        if conv.inputs[1] is None or len(conv.inputs[1].uses()) > 1:
            continue  # a scaled weight would be a second one
        weight, transposed = constant_of(conv.inputs[1]), conv.op_type == "ConvTranspose"
        if weight is None or weight.ndim != 4 or conv.attributes["group"].as_int() != 1:
            continue
        if weight.shape[int(transposed)] != len(factors):
            continue
        axes = (1, -1, 1, 1) if transposed else (-1, 1, 1, 1)
        conv.replace_input_with(1, r.constant((weight * factors.reshape(axes)).astype(np.float32)))
        r.replace(mul, scaled)
        return


def _read_once(value: ir.Value) -> bool:
    return len(value.uses()) == 1 and not value.is_graph_output()


def _by_channel(value: ir.Value | None) -> NDArray[Any] | None:
    """Factors `[C]` of a constant `[C, 1, 1]` or `[1, C, 1, 1]`."""
    array = constant_of(value)
    if array is None or array.ndim < 3 or array.shape[-2:] != (1, 1):
        return None
    return array.reshape(-1) if array.size == array.shape[-3] else None
