"""Batch norms, their statistics and their gradients, as ONNX.

ONNX's BatchNormalization in training mode returns the *biased* running variance where torch's module keeps the unbiased
one. The step wants the biased one everywhere, so the operator fits as it is. It is also the fastest way to the moments
of one frame: one node, where mean, difference, square and mean are four.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from torch import fx

from ecotta_rt.exporter.builder import GraphBuilder
from ecotta_rt.exporter.rules.registry import rule, shape_at

__all__: list[str] = []


@rule("aten.native_batch_norm", "aten._native_batch_norm_legit_no_training")
def _native_batch_norm(
    g: GraphBuilder,
    node: fx.Node,
    x: ir.Value,
    weight: ir.Value | None,
    bias: ir.Value | None,
    mean: ir.Value | None,
    variance: ir.Value | None,
    training: Any,
    momentum: float,
    eps: float,
) -> tuple[ir.Value | None, ...]:
    source: Any = node.args[0]
    shape = shape_at(source)
    if not training:
        weight = weight or g.constant(np.ones(shape[1], np.float32))
        bias = bias or g.constant(np.zeros(shape[1], np.float32))
        return g.op("BatchNormalization", x, weight, bias, mean, variance, epsilon=eps), None, None
    y, mean, variance = _in_training(g, node, x, shape[1], weight, bias, eps)
    inverse = g.op("Reciprocal", g.op("Sqrt", g.op("Add", variance, g.scalar(eps))))
    return y, mean, inverse


@rule("ecotta.frame_moments")
def _frame_moments(g: GraphBuilder, node: fx.Node, x: ir.Value) -> tuple[ir.Value, ir.Value]:
    """Of one frame by a norm whose other result is not used: the norm behind it takes over that memory.

    Of several, that result would have another shape than theirs. onnxruntime gives back what nobody reads only when the
    run ends, and it would be all feature maps.
    """
    source: Any = node.args[0]
    frames, channels = shape_at(source)[:2]
    if frames == 1:
        _, mean, variance = _in_training(g, node, x, channels)
        return mean, variance
    axes = g.ints(2, 3)
    mean = g.op("ReduceMean", x, axes, keepdims=1)
    centred = g.op("Sub", x, mean)
    variance = g.op("ReduceMean", g.op("Mul", centred, centred), axes, keepdims=0)
    return g.op("Reshape", mean, g.ints(frames, channels)), variance


def _in_training(
    g: GraphBuilder,
    node: fx.Node,
    x: ir.Value,
    channels: int,
    weight: ir.Value | None = None,
    bias: ir.Value | None = None,
    eps: float = 1e-5,
) -> tuple[ir.Value, ...]:
    """`x` normalised by its own moments, and those, `[channels]`."""
    weight = weight or g.constant(np.ones(channels, np.float32))
    bias = bias or g.constant(np.zeros(channels, np.float32))
    # With momentum 0 the "running" moments that come out are those of this batch.
    start = next(_start_moments(g, x, node)), next(_start_moments(g, x, node))
    return g.ops("BatchNormalization", 3, x, weight, bias, *start, epsilon=eps, training_mode=1, momentum=0.0)


def _start_moments(g: GraphBuilder, x: ir.Value, node: fx.Node) -> Iterator[ir.Value]:
    """Zeros for the moments that go into a norm in training mode: for each norm a pair that nobody else reads.

    onnxruntime overwrites them, so they may be no constants (those are shared), nor two nodes that compute the same
    (those are merged): they are pieces of one vector, which is computed from a pixel so that nobody folds it.
    """
    if "start moments" not in g.memory:
        channels = [count for n in node.graph.nodes for count in [_moments_of(n)] * 2 if count]
        rank = len(x.shape) if x.shape is not None else 4
        pixel = g.op("Slice", x, g.ints(*[0] * rank), g.ints(*[1] * rank), g.ints(*range(rank)))
        # By way of an integer: 0 * NaN would be NaN.
        nothing = g.op("Mul", g.op("Cast", g.op("Reshape", pixel, g.ints(1)), to=ir.DataType.INT64.value), g.ints(0))
        zeros = g.op("Expand", g.op("Cast", nothing, to=ir.DataType.FLOAT.value), g.ints(sum(channels)))
        pieces = g.ops("Split", len(channels), zeros, g.ints(*channels), axis=0)
        for piece, count in zip(pieces, channels, strict=True):  # shape inference does not read long lists of sizes
            piece.shape, piece.type = ir.Shape([count]), ir.TensorType(ir.DataType.FLOAT)
        g.memory["start moments"] = iter(pieces)
    pieces_left: Iterator[ir.Value] = g.memory["start moments"]
    return pieces_left


def _moments_of(node: fx.Node) -> int:
    """How many means a node asks a norm in training mode for; 0 where it asks for none."""
    source: Any = node.args[0] if node.args else None
    if str(node.target) == "ecotta.frame_moments.default":
        frames, channels = shape_at(source)[:2]
        return channels if frames == 1 else 0
    if str(node.target) == "aten.native_batch_norm.default" and node.args[5]:
        return shape_at(source)[1]
    return 0


@rule("aten.native_batch_norm_backward")
def _native_batch_norm_backward(
    g: GraphBuilder,
    node: fx.Node,
    gradient: ir.Value,
    x: ir.Value,
    weight: ir.Value | None,
    running_mean: ir.Value | None,
    running_variance: ir.Value | None,
    mean: ir.Value,
    inverse: ir.Value,
    training: bool,
    eps: float,
    wanted: Sequence[bool],
) -> tuple[ir.Value | None, ...]:
    """Gradients of input, weight and bias.

    With h = (x - mean) / deviation: dw = sum(g h), db = sum(g), and dx = w / deviation * g; in training mode less its
    mean and its share along h, dx = w / deviation * (g - mean(g) - h mean(g h)).
    """
    source: Any = node.args[1]
    frames, channels, height, width = shape_at(source)
    count, axes = frames * height * width, g.ints(0, 2, 3)

    def spread(per_channel: ir.Value) -> ir.Value:
        return g.op("Reshape", per_channel, g.ints(channels, 1, 1))

    def total(values: ir.Value) -> ir.Value:
        return g.op("ReduceSum", values, axes, keepdims=0)

    scale = inverse if weight is None else g.op("Mul", weight, inverse)
    sums_wanted = training or wanted[1]
    centred = g.op("Sub", x, spread(mean)) if sums_wanted else None
    along = total(g.op("Mul", gradient, centred)) if centred is not None else None  # sum(g (x - mean))
    level = total(gradient) if training or wanted[2] else None
    back = None
    if wanted[0] and not training:
        back = g.op("Mul", gradient, spread(scale))
    elif wanted[0]:
        assert along is not None and level is not None and centred is not None
        share = g.op("Mul", g.op("Mul", g.op("Mul", inverse, inverse), along), g.scalar(1 / count))
        inner = g.op("Sub", gradient, spread(g.op("Mul", level, g.scalar(1 / count))))
        back = g.op("Mul", g.op("Sub", inner, g.op("Mul", centred, spread(share))), spread(scale))
    grad_weight = g.op("Mul", along, inverse) if wanted[1] and along is not None else None
    return back, grad_weight, level if wanted[2] else None
