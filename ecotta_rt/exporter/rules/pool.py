"""Pooling and its gradients, as ONNX.

    max pooling       MaxPool; where a gradient is wanted, with the places it took its values from
    its gradient      ScatterElements that adds at those places
    average pooling   AveragePool, times a factor where torch divides by something else than ONNX
    its gradient      each value spread over its window: Expand where windows tile the input, else ConvTranspose by ones

torch's `ceil_mode` is written as more padding at the far edges: the operators' own attribute rounds differently.

onnxruntime finds the places many times slower than it pools (5.3 ms against 0.2 for 64 x 112 x 112 by 3x3), but adding
at places still beat Col2Im and ConvTranspose over one-hot windows (1.2 ms against 3.4). Max pooling mostly stands in
the stem, where nothing learns.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from torch import fx

from ecotta_rt.errors import NetworkError
from ecotta_rt.exporter.builder import GraphBuilder
from ecotta_rt.exporter.held import shape_after
from ecotta_rt.exporter.rules.registry import named, rule, shape_at

__all__: list[str] = []


class _Windows(NamedTuple):
    """Where the windows of a pooling lie; two numbers each, rows and columns."""

    in_size: tuple[int, ...]
    out_size: tuple[int, ...]
    kernel: list[int]
    stride: list[int]
    padding: list[int]
    dilation: list[int]

    def beyond(self) -> list[int]:
        """How far the last window reaches over the far edge; negative where it does not get there."""
        return [(out - 1) * s + d * (k - 1) + 1 - size - p for size, out, k, s, p, d in zip(*self, strict=True)]

    def attributes(self) -> dict[str, Any]:
        after = [max(0, n) for n in self.beyond()]
        return {"kernel_shape": self.kernel, "strides": self.stride, "pads": [*self.padding, *after]}

    def tile(self) -> bool:
        """Whether they cover the input exactly, each element once."""
        covered = [out * k for out, k in zip(self.out_size, self.kernel, strict=True)]
        return self.kernel == self.stride and not any(self.padding) and covered == list(self.in_size)


def _windows(
    in_shape: Sequence[int], out_shape: Sequence[int], kernel: Any, stride: Any, padding: Any = 0, dilation: Any = 1
) -> _Windows:
    pairs = [_pair(given) for given in (kernel, stride or kernel, padding, dilation)]
    return _Windows(tuple(in_shape[-2:]), tuple(out_shape[-2:]), *pairs)


def _pair(value: Any) -> list[int]:
    return [value, value] if isinstance(value, int) else list(value) * (2 if len(value) == 1 else 1)


def _sizes(node: fx.Node, index: int) -> tuple[int, ...]:
    source: Any = node.args[index]
    return shape_at(source)


# Maximum


@rule("aten.max_pool2d_with_indices")
def _max_pool(
    g: GraphBuilder,
    node: fx.Node,
    x: ir.Value,
    kernel: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0, 0),
    dilation: Sequence[int] = (1, 1),
    ceil_mode: bool = False,
) -> tuple[ir.Value, ir.Value | None]:
    out_shape = tuple(node.meta["val"][0].shape)
    return _maximum(g, node, x, _windows(_sizes(node, 0), out_shape, kernel, stride, padding, dilation))


@rule("aten.adaptive_max_pool2d")
def _adaptive_max_pool(
    g: GraphBuilder, node: fx.Node, x: ir.Value, size: Sequence[int]
) -> tuple[ir.Value, ir.Value | None]:
    in_size, out_size = _sizes(node, 0)[-2:], node.meta["val"][0].shape[-2:]
    if any(inner % outer for inner, outer in zip(in_size, out_size, strict=True)):
        raise NetworkError(
            f"{named(node)} from {in_size[0]}x{in_size[1]} to {out_size[0]}x{out_size[1]} cannot be exported: its "
            "windows differ in size; choose a size that divides the feature map's, or adaptive average pooling"
        )
    kernel = [inner // outer for inner, outer in zip(in_size, out_size, strict=True)]
    return _maximum(g, node, x, _windows(in_size, out_size, kernel, kernel))


def _maximum(g: GraphBuilder, node: fx.Node, x: ir.Value, windows: _Windows) -> tuple[ir.Value, ir.Value | None]:
    attributes = {**windows.attributes(), "dilations": windows.dilation}
    readers = [user for pick in node.users if pick.args[1] == 1 for user in pick.users]
    if not readers:
        return g.op("MaxPool", x, **attributes), None
    strangers = [user for user in readers if not str(user.target).partition(".default")[0].endswith("_backward")]
    if strangers:
        raise NetworkError(
            f"{named(node)} hands its indices to {strangers[0].target}, which cannot be exported: they are for the "
            "backward only; take return_indices=True out of the network"
        )
    y, places = g.ops("MaxPool", 2, x, **attributes)
    # They count through the whole tensor. Half the bytes for what may live until the backward.
    if np.prod(_sizes(node, 0)) < 2**31:
        places = g.op("Cast", places, to=ir.DataType.INT32.value)
        places.shape, places.type = ir.Shape(list(node.meta["val"][1].shape)), ir.TensorType(ir.DataType.INT32)
    return y, places


@rule("aten.max_pool2d_with_indices_backward")
def _max_pool_backward(g: GraphBuilder, node: fx.Node, gradient: ir.Value, x: ir.Value, *rest: Any) -> ir.Value:
    return _add_at(g, node, gradient, rest[-1])


@rule("aten.adaptive_max_pool2d_backward")
def _adaptive_max_pool_backward(
    g: GraphBuilder, node: fx.Node, gradient: ir.Value, x: ir.Value, places: ir.Value
) -> ir.Value:
    return _add_at(g, node, gradient, places)


def _add_at(g: GraphBuilder, node: fx.Node, gradient: ir.Value, places: ir.Value) -> ir.Value:
    shape, rank = shape_at(node), len(_sizes(node, 0))
    # Made only now, and no constant: that would be a feature map of zeros in the file.
    count = int(np.prod(shape))
    zeros = g.op("Expand", g.scalar(0.0), shape_after(g, [count], gradient, rank))
    # Shape inference does not follow a shape that is known only once the gradient is there.
    zeros.shape, zeros.type = ir.Shape([count]), ir.TensorType(ir.DataType.FLOAT)
    flat_places, flat_gradient = (g.op("Reshape", value, g.ints(-1)) for value in (places, gradient))
    summed = g.op("ScatterElements", zeros, flat_places, flat_gradient, axis=0, reduction="add")
    return g.op("Reshape", summed, g.ints(*shape))


# Average


@rule("aten.avg_pool2d")
def _avg_pool(
    g: GraphBuilder,
    node: fx.Node,
    x: ir.Value,
    kernel: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0, 0),
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor: int | None = None,
) -> ir.Value:
    windows = _windows(_sizes(node, 0), shape_at(node), kernel, stride, padding)
    divisors, inside = _divisors(windows, count_include_pad, divisor), _divisors(windows, False, None)
    if (divisors == inside).all():
        return g.op("AveragePool", x, count_include_pad=0, **windows.attributes())
    y = g.op("AveragePool", x, count_include_pad=1, **windows.attributes())
    factors = np.float32(np.prod(windows.kernel)) / divisors
    return y if (factors == 1).all() else g.op("Mul", y, _least(g, factors))


@rule("aten.avg_pool2d_backward")
def _avg_pool_backward(
    g: GraphBuilder,
    node: fx.Node,
    gradient: ir.Value,
    x: ir.Value,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    ceil_mode: bool,
    count_include_pad: bool,
    divisor: int | None,
) -> ir.Value:
    shape, out_shape = shape_at(node), _sizes(node, 0)
    windows = _windows(shape, out_shape, kernel, stride, padding)
    shares = g.op("Mul", gradient, _least(g, np.float32(1) / _divisors(windows, count_include_pad, divisor)))
    return _spread(g, shares, windows, shape, out_shape)


def _divisors(windows: _Windows, count_include_pad: bool, divisor: int | None) -> NDArray[np.float32]:
    """What torch divides each window's sum by, `[H_out, W_out]`: its elements, those beyond the padding not counted."""
    sides = []
    for size, out, k, s, p, _ in zip(*windows, strict=True):
        start = np.arange(out) * s - p
        stop = np.minimum(start + k, size + p)
        sides.append(stop - start if count_include_pad else np.minimum(stop, size) - np.maximum(start, 0))
    counted = np.outer(*sides)
    return np.asarray(counted if divisor is None else np.full_like(counted, divisor), np.float32)


def _least(g: GraphBuilder, factors: NDArray[np.float32]) -> ir.Value:
    """One number where they are all the same."""
    uniform = (factors == factors.flat[0]).all()
    return g.scalar(float(factors.flat[0])) if uniform else g.constant(factors, np.float32)


def _spread(
    g: GraphBuilder, shares: ir.Value, windows: _Windows, shape: tuple[int, ...], out_shape: tuple[int, ...]
) -> ir.Value:
    """Each value to every element of its window, overlaps added."""
    planes = int(np.prod(shape[:-2]))
    height, width = windows.out_size
    if windows.tile():
        rows, columns = windows.kernel
        wide = g.op(
            "Expand", g.op("Reshape", shares, g.ints(planes, height, 1, width, 1)), g.ints(1, 1, rows, 1, columns)
        )
        return g.op("Reshape", wide, g.ints(*shape))
    # All planes as one batch of single channels: faster than as many groups.
    ones = g.constant(np.ones((1, 1, *windows.kernel), np.float32))
    rest = [max(0, -n) for n in windows.beyond()]
    single = g.op("Reshape", shares, g.ints(planes, 1, height, width))
    back = g.op("ConvTranspose", single, ones, output_padding=rest, **windows.attributes())
    return g.op("Reshape", back, g.ints(*shape))


# Average to a given size


@rule("aten._adaptive_avg_pool2d", "aten.adaptive_avg_pool2d")
def _adaptive_avg_pool(g: GraphBuilder, node: fx.Node, x: ir.Value, size: Sequence[int]) -> ir.Value:
    in_size, out_size = _sizes(node, 0)[-2:], shape_at(node)[-2:]
    if all(inner % outer == 0 for inner, outer in zip(in_size, out_size, strict=True)):
        kernel = [inner // outer for inner, outer in zip(in_size, out_size, strict=True)]
        return g.op("AveragePool", x, kernel_shape=kernel, strides=kernel)
    return _by_matrices(g, x, *(_averaging(*sides) for sides in zip(in_size, out_size, strict=True)))


@rule("aten._adaptive_avg_pool2d_backward")
def _adaptive_avg_pool_backward(g: GraphBuilder, node: fx.Node, gradient: ir.Value, x: ir.Value) -> ir.Value:
    in_size, out_size = shape_at(node)[-2:], _sizes(node, 0)[-2:]
    return _by_matrices(g, gradient, *(_averaging(*sides).T for sides in zip(in_size, out_size, strict=True)))


def _averaging(size: int, out: int) -> NDArray[np.float32]:
    """The matrix `[out, size]` that averages one axis over windows from floor(i s / o) to ceil((i + 1) s / o)."""
    matrix = np.zeros((out, size), np.float32)
    for i in range(out):
        start, stop = i * size // out, -(-(i + 1) * size // out)
        matrix[i, start:stop] = 1 / (stop - start)
    return matrix


def _by_matrices(g: GraphBuilder, x: ir.Value, rows: NDArray[np.float32], columns: NDArray[np.float32]) -> ir.Value:
    return g.op("MatMul", g.op("MatMul", g.constant(rows), x), g.constant(columns.T))
