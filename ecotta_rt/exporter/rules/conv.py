"""Convolutions and their gradients, as ONNX.

    input gradient, stride 1     a plain Conv with the window turned round and the channels swapped
    input gradient, stride > 1   ConvTranspose
    weight gradient              products of the output's gradient with shifted slices of the input

A frozen weight is turned round once, here; a learned one by nodes of the graph. A transposed convolution is the input
gradient of a plain one, so its own gradients are a plain convolution and the same products with the parts exchanged.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from torch import fx

from ecotta_rt.errors import NetworkError
from ecotta_rt.exporter.builder import GraphBuilder, constant_of
from ecotta_rt.exporter.held import hold_back
from ecotta_rt.exporter.rules.registry import named, rule, shape_at

__all__: list[str] = []

_LARGE = 1 << 18
"""Numbers from which it pays to make the shifted copies of one frame a row at a time."""


@rule("aten.convolution", "aten._convolution")
def _convolution(
    g: GraphBuilder,
    node: fx.Node,
    x: ir.Value,
    weight: ir.Value,
    bias: ir.Value | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
    *_: Any,
) -> ir.Value:
    source: Any = node.args[1]
    window = shape_at(source)
    common = _attributes(window, stride, padding, dilation, groups)
    if not transposed:
        return g.op("Conv", x, weight, bias, **common)
    y = _input_gradient(g, x, weight, window, common, output_padding)
    return y if bias is None else g.op("Add", y, g.op("Reshape", bias, g.ints(-1, *[1] * (len(window) - 2))))


@rule("aten.convolution_backward")
def _convolution_backward(
    g: GraphBuilder,
    node: fx.Node,
    gradient: ir.Value,
    x: ir.Value,
    weight: ir.Value,
    bias_sizes: Any,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
    wanted: Sequence[bool],
) -> tuple[ir.Value | None, ...]:
    sizes: Any = node.args
    out_shape, in_shape, window = (shape_at(sizes[i]) for i in range(3))
    if len(window) != 4 and wanted[1]:
        raise NetworkError(
            f"{named(node)} of a {len(window) - 2}-d convolution cannot be exported: only the weights of 2-d "
            "convolutions can learn on the device; freeze that one"
        )
    common = _attributes(window, stride, padding, dilation, groups)
    back = grown = None
    if transposed:
        back = g.op("Conv", gradient, weight, **common) if wanted[0] else None
        grown = _weight_gradient(g, x, gradient, in_shape, out_shape, window, common) if wanted[1] else None
    else:
        rest = _left_over(in_shape, out_shape, window, common)
        back = _input_gradient(g, gradient, weight, window, common, rest) if wanted[0] else None
        grown = _weight_gradient(g, gradient, x, out_shape, in_shape, window, common) if wanted[1] else None
    axes = [axis for axis in range(len(out_shape)) if axis != 1]
    return back, grown, g.op("ReduceSum", gradient, g.ints(*axes), keepdims=0) if wanted[2] else None


def _attributes(
    window: tuple[int, ...], stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int], groups: int
) -> dict[str, Any]:
    """Of a Conv with this window; torch may give one number for all axes."""
    axes = len(window) - 2
    strides, pads, dilations = (list(given) * (axes // len(given)) for given in (stride, padding, dilation))
    return {
        "kernel_shape": list(window[2:]),
        "strides": strides,
        "pads": [*pads, *pads],
        "dilations": dilations,
        "group": groups,
    }


def _left_over(
    in_shape: tuple[int, ...], out_shape: tuple[int, ...], window: tuple[int, ...], common: dict[str, Any]
) -> list[int]:
    """Rows at the far edge that a strided convolution's last window did not reach, an axis."""
    return [
        size + 2 * p - d * (k - 1) - 1 - (out - 1) * s
        for size, out, k, s, p, d in zip(
            in_shape[2:],
            out_shape[2:],
            window[2:],
            common["strides"],
            common["pads"][: len(window) - 2],
            common["dilations"],
            strict=True,
        )
    ]


def _input_gradient(
    g: GraphBuilder,
    gradient: ir.Value,
    weight: ir.Value,
    window: tuple[int, ...],
    common: dict[str, Any],
    rest: Sequence[int],
) -> ir.Value:
    kernel, padding = window[2:], common["pads"][: len(window) - 2]
    pads = [d * (k - 1) - p for d, k, p in zip(common["dilations"], kernel, padding, strict=True)]
    # More padding than window would need negative pads, which Conv does not take.
    if set(common["strides"]) != {1} or any(rest) or min(pads) < 0:
        return g.op("ConvTranspose", gradient, weight, output_padding=list(rest), **common)
    turned = {**common, "pads": [*pads, *pads]}
    return g.op("Conv", gradient, _turned_round(g, weight, window, common["group"]), **turned)


def _turned_round(g: GraphBuilder, weight: ir.Value, window: tuple[int, ...], groups: int) -> ir.Value:
    """[C_out, C_in / groups, ...] to [C_in, C_out / groups, ...], the window reversed on all its axes."""
    out_channels, group_inputs, *kernel = window
    by_group = (groups, out_channels // groups, group_inputs, *kernel)
    turned = (groups * group_inputs, out_channels // groups, *kernel)
    known = constant_of(weight)
    if known is not None:
        swapped = np.flip(known.reshape(by_group).swapaxes(1, 2), axis=tuple(range(3, len(by_group))))
        return g.constant(swapped.reshape(turned))
    if groups == 1:
        value = g.op("Transpose", weight, perm=[1, 0, *range(2, len(window))])
    else:
        value = g.op("Transpose", g.op("Reshape", weight, g.ints(*by_group)), perm=[0, 2, 1, *range(3, len(by_group))])
        value = g.op("Reshape", value, g.ints(*turned))
    if set(kernel) == {1}:
        return value
    far, axes = np.iinfo(np.int64).min, range(2, len(window))
    ones = [-1] * len(kernel)
    return g.op("Slice", value, g.ints(*ones), g.ints(*[far] * len(kernel)), g.ints(*axes), g.ints(*ones))


def _weight_gradient(
    g: GraphBuilder,
    gradient: ir.Value,
    x: ir.Value,
    out_shape: tuple[int, ...],
    in_shape: tuple[int, ...],
    window: tuple[int, ...],
    common: dict[str, Any],
) -> ir.Value:
    """dW[o, i, u, v] = sum over frames n and positions p of dY[n, o, p] * X[n, i, stride p + dilation (u, v) - pad].

    With groups, o and i of one group only.
    """
    frames, out_channels, height, width = out_shape
    in_channels, groups, (rows, columns) = in_shape[1], common["group"], window[2:]
    (down, right), (top, left), (far, wide) = common["strides"], common["pads"][:2], common["dilations"]
    x = hold_back(g, x, in_shape, gradient, math.prod(out_shape))
    padded = g.op("Pad", x, g.ints(0, 0, top, left, 0, 0, top, left)) if top or left else x
    padded_shape = (frames, in_channels, in_shape[2] + 2 * top, in_shape[3] + 2 * left)
    positions = height * width

    def tap(u: int, v: int, source: ir.Value) -> ir.Value:
        """The padded input as the weights at (u, v) see it: [N, C_in, H, W] of the output's size."""
        if (rows, columns, down, right) == (1, 1, 1, 1):
            return source
        first = (u * far, v * wide)
        last = g.ints(first[0] + (height - 1) * down + 1, first[1] + (width - 1) * right + 1)
        return g.op("Slice", source, g.ints(*first), last, g.ints(2, 3), g.ints(down, right))

    window_places = [(u, v) for u in range(rows) for v in range(columns)]
    if frames == 1 and groups == 1:
        # A row of taps side by side: a well-shaped product, and for one frame a copy of three feature maps is small.
        flat_gradient = g.op("Reshape", gradient, g.ints(out_channels, positions))
        by_row: list[ir.Value] = []
        for u in range(rows):
            if by_row and len(window_places) * in_channels * positions > _LARGE:
                count = out_channels * columns * in_channels
                padded = hold_back(g, padded, padded_shape, by_row[-1], count)
            taps = [tap(u, v, padded) for v in range(columns)]
            beside = taps[0] if len(taps) == 1 else g.op("Concat", *taps, axis=0)
            flat = g.op("Reshape", beside, g.ints(len(taps) * in_channels, positions))
            by_row.append(g.op("Gemm", flat_gradient, flat, transB=1))
        product = by_row[0] if len(by_row) == 1 else g.op("Concat", *by_row, axis=1)
        by_tap = g.op("Reshape", product, g.ints(out_channels, rows, columns, in_channels))
        return g.op("Transpose", by_tap, perm=[0, 3, 1, 2])
    # One product a frame, or a frame and group.
    apart = [frames] if groups == 1 else [frames, groups]
    axes = list(range(len(apart)))
    flat_gradient = g.op("Reshape", gradient, g.ints(*apart, out_channels // groups, positions))
    products: list[ir.Value] = []
    axis = len(apart) + 1
    before, count = gradient, math.prod(out_shape)
    for u, v in window_places:
        # One tap after the other: a batch's feature map is large, and what reads only `x` might run at any time.
        source = hold_back(g, padded, padded_shape, before, count)
        seen = g.op("Reshape", tap(u, v, source), g.ints(*apart, in_channels // groups, positions))
        turned = g.op("Transpose", seen, perm=[*axes, len(apart) + 1, len(apart)])
        before = g.op("ReduceSum", g.op("MatMul", flat_gradient, turned), g.ints(0), keepdims=0)
        count = out_channels * in_channels // groups
        products.append(g.op("Unsqueeze", before, g.ints(axis)))
    stacked = products[0] if len(products) == 1 else g.op("Concat", *products, axis=axis)
    return g.op("Reshape", stacked, g.ints(*window))
