"""Activations and their gradients, as ONNX.

A gradient rule gets what torch's own backward gets: the incoming gradient, and the activation's input (sigmoid and
tanh: its output). Where a derivative jumps, at 0, 3 or 6, the rule takes the same side as torch.
"""

import math
from collections.abc import Callable
from typing import Any

import onnx_ir as ir
import torch
from torch import fx

from ecotta_rt.exporter.builder import GraphBuilder
from ecotta_rt.exporter.rules.registry import DTYPES, Rule, is_number, rule

__all__: list[str] = []


def _derivative(*targets: str) -> Callable[[Callable[..., ir.Value]], Rule]:
    """Register a rule that returns the derivative alone, from the same arguments without the gradient."""

    def register(derivative: Callable[..., ir.Value]) -> Rule:
        def backward(g: GraphBuilder, node: fx.Node, gradient: ir.Value, *given: Any, **named: Any) -> ir.Value:
            return g.op("Mul", gradient, derivative(g, node, *given, **named))

        return rule(*targets)(backward)

    return register


def _where(g: GraphBuilder, condition: ir.Value, yes: ir.Value, no: ir.Value | float) -> ir.Value:
    return g.op("Where", condition, yes, no if isinstance(no, ir.Value) else g.scalar(no))


def _between(g: GraphBuilder, x: ir.Value, low: float, high: float) -> ir.Value:
    """Where low < x < high, bool."""
    tests = [g.op("Greater", x, g.scalar(low))] if low > -math.inf else []
    tests += [g.op("Less", x, g.scalar(high))] if high < math.inf else []
    return tests[0] if len(tests) == 1 else g.op("And", *tests)


# Cut off: ReLU, ReLU6, clamp


@rule("aten.relu")
def _relu(g: GraphBuilder, node: fx.Node, x: ir.Value) -> ir.Value:
    return g.op("Relu", x)


@rule("aten.threshold_backward")
def _threshold_backward(g: GraphBuilder, node: fx.Node, gradient: ir.Value, x: ir.Value, threshold: float) -> ir.Value:
    return _where(g, g.op("Greater", x, g.scalar(threshold)), gradient, 0.0)


@rule("aten.hardtanh")
def _hardtanh(g: GraphBuilder, node: fx.Node, x: ir.Value, low: float = -1.0, high: float = 1.0) -> ir.Value:
    return _cut(g, node, x, low, high)


@rule("aten.hardtanh_backward")
def _hardtanh_backward(
    g: GraphBuilder, node: fx.Node, gradient: ir.Value, x: ir.Value, low: float, high: float
) -> ir.Value:
    return _where(g, _between(g, x, low, high), gradient, 0.0)


@rule("aten.clamp", "aten.clamp_min", "aten.clamp_max")
def _clamp(g: GraphBuilder, node: fx.Node, x: ir.Value, low: Any = None, high: Any = None, **named: Any) -> ir.Value:
    low, high = named.get("min", low), named.get("max", high)
    if str(node.target).startswith("aten.clamp_max"):
        low, high = None, low
    return _cut(g, node, x, low, high)


def _cut(g: GraphBuilder, node: fx.Node, x: ir.Value, low: Any, high: Any) -> ir.Value:
    """`x` within bounds, each a number, a tensor or None."""
    for bound, op_type in ((low, "Max"), (high, "Min")):
        if isinstance(bound, ir.Value):
            x = g.op(op_type, x, bound)
    low, high = (None if isinstance(b, ir.Value) or b is None or abs(b) == math.inf else b for b in (low, high))
    if low is None and high is None:
        return x
    if is_number(low, 0) and high is None and DTYPES[node.meta["val"].dtype] == ir.DataType.FLOAT:
        return g.op("Relu", x)
    dtype = torch.empty(0, dtype=node.meta["val"].dtype).numpy().dtype
    return g.op("Clip", x, *(None if bound is None else g.constant(bound, dtype) for bound in (low, high)))


@rule("aten.leaky_relu")
def _leaky_relu(g: GraphBuilder, node: fx.Node, x: ir.Value, slope: float = 0.01) -> ir.Value:
    return g.op("LeakyRelu", x, alpha=float(slope))


@rule("aten.leaky_relu_backward")
def _leaky_relu_backward(
    g: GraphBuilder, node: fx.Node, gradient: ir.Value, x: ir.Value, slope: float, is_result: bool
) -> ir.Value:
    return _where(g, g.op("Greater", x, g.scalar(0)), gradient, g.op("Mul", gradient, g.scalar(slope)))


@rule("aten._prelu_kernel")
def _prelu(g: GraphBuilder, node: fx.Node, x: ir.Value, slope: ir.Value) -> ir.Value:
    return g.op("PRelu", x, slope)


@rule("aten._prelu_kernel_backward")
def _prelu_backward(
    g: GraphBuilder, node: fx.Node, gradient: ir.Value, x: ir.Value, slope: ir.Value
) -> tuple[ir.Value, ir.Value]:
    above = g.op("Greater", x, g.scalar(0))
    below = g.op("Mul", x, gradient)
    return _where(g, above, gradient, g.op("Mul", gradient, slope)), _where(g, above, g.scalar(0), below)


# Bent by pieces: hard-sigmoid, hard-swish


@rule("aten.hardsigmoid")
def _hardsigmoid(g: GraphBuilder, node: fx.Node, x: ir.Value) -> ir.Value:
    return g.op("HardSigmoid", x, alpha=1 / 6, beta=0.5)


@rule("aten.hardsigmoid_backward")
def _hardsigmoid_backward(g: GraphBuilder, node: fx.Node, gradient: ir.Value, x: ir.Value) -> ir.Value:
    return _where(g, _between(g, x, -3, 3), g.op("Mul", gradient, g.scalar(1 / 6)), 0.0)


@rule("aten.hardswish")
def _hardswish(g: GraphBuilder, node: fx.Node, x: ir.Value) -> ir.Value:
    return g.op("HardSwish", x)


@_derivative("aten.hardswish_backward")
def _hardswish_derivative(g: GraphBuilder, node: fx.Node, x: ir.Value) -> ir.Value:
    """1/2 + x / 3 between -3 and 3, 0 below and 1 above."""
    bent = g.op("Add", g.op("Mul", x, g.scalar(1 / 3)), g.scalar(0.5))
    below = g.op("Cast", g.op("GreaterOrEqual", x, g.scalar(3)), to=ir.DataType.FLOAT.value)
    return _where(g, _between(g, x, -3, 3), bent, below)


# Smooth


@rule("aten.sigmoid")
def _sigmoid(g: GraphBuilder, node: fx.Node, x: ir.Value) -> ir.Value:
    return g.op("Sigmoid", x)


@_derivative("aten.sigmoid_backward")
def _sigmoid_derivative(g: GraphBuilder, node: fx.Node, y: ir.Value) -> ir.Value:
    return g.op("Mul", y, g.op("Sub", g.scalar(1), y))


@rule("aten.tanh")
def _tanh(g: GraphBuilder, node: fx.Node, x: ir.Value) -> ir.Value:
    return g.op("Tanh", x)


@_derivative("aten.tanh_backward")
def _tanh_derivative(g: GraphBuilder, node: fx.Node, y: ir.Value) -> ir.Value:
    return g.op("Sub", g.scalar(1), g.op("Mul", y, y))


@rule("aten.silu")
def _silu(g: GraphBuilder, node: fx.Node, x: ir.Value) -> ir.Value:
    return g.op("Mul", x, g.op("Sigmoid", x))


@_derivative("aten.silu_backward")
def _silu_derivative(g: GraphBuilder, node: fx.Node, x: ir.Value) -> ir.Value:
    """With s = sigmoid(x): s (1 + x (1 - s))."""
    s = g.op("Sigmoid", x)
    return g.op("Mul", s, g.op("Add", g.scalar(1), g.op("Mul", x, g.op("Sub", g.scalar(1), s))))


@rule("aten.mish")
def _mish(g: GraphBuilder, node: fx.Node, x: ir.Value) -> ir.Value:
    return g.op("Mul", x, g.op("Tanh", g.op("Softplus", x)))


@_derivative("aten.mish_backward")
def _mish_derivative(g: GraphBuilder, node: fx.Node, x: ir.Value) -> ir.Value:
    """With s = sigmoid(x) and t = tanh(softplus(x)): t + x s (1 - t^2)."""
    t = g.op("Tanh", g.op("Softplus", x))
    steep = g.op("Sub", g.scalar(1), g.op("Mul", t, t))
    return g.op("Add", t, g.op("Mul", g.op("Mul", x, g.op("Sigmoid", x)), steep))


@rule("aten.softplus")
def _softplus(g: GraphBuilder, node: fx.Node, x: ir.Value, beta: float = 1, threshold: float = 20) -> ir.Value:
    # Above its threshold torch returns x itself: to float32 that is the same number.
    scaled = x if beta == 1 else g.op("Mul", x, g.scalar(beta))
    y = g.op("Softplus", scaled)
    return y if beta == 1 else g.op("Mul", y, g.scalar(1 / beta))


@_derivative("aten.softplus_backward")
def _softplus_derivative(g: GraphBuilder, node: fx.Node, x: ir.Value, beta: float, threshold: float) -> ir.Value:
    return g.op("Sigmoid", x if beta == 1 else g.op("Mul", x, g.scalar(beta)))


@rule("aten.elu")
def _elu(
    g: GraphBuilder, node: fx.Node, x: ir.Value, alpha: float = 1, scale: float = 1, input_scale: float = 1
) -> ir.Value:
    """ELU, SELU and CELU: scale * x above 0, scale * alpha * (exp(input_scale * x) - 1) below."""
    below = g.op("Elu", x if input_scale == 1 else g.op("Mul", x, g.scalar(input_scale)), alpha=float(alpha))
    y = below if input_scale == 1 else _where(g, g.op("Greater", x, g.scalar(0)), x, below)
    return y if scale == 1 else g.op("Mul", y, g.scalar(scale))


@rule("aten.celu")
def _celu(g: GraphBuilder, node: fx.Node, x: ir.Value, alpha: float = 1) -> ir.Value:
    y: ir.Value = _elu(g, node, x, alpha, 1, 1 / alpha)
    return y


@_derivative("aten.elu_backward")
def _elu_derivative(
    g: GraphBuilder, node: fx.Node, alpha: float, scale: float, input_scale: float, is_result: bool, value: ir.Value
) -> ir.Value:
    """`value` is the output where ELU worked in place, its input else."""
    if is_result:
        below = g.op("Mul", g.op("Add", value, g.scalar(alpha * scale)), g.scalar(input_scale))
    else:
        grown = g.op("Exp", g.op("Mul", value, g.scalar(input_scale)))
        below = g.op("Mul", grown, g.scalar(alpha * scale * input_scale))
    return _where(g, g.op("Greater", value, g.scalar(0)), g.scalar(scale), below)


@rule("aten.gelu")
def _gelu(g: GraphBuilder, node: fx.Node, x: ir.Value, *, approximate: str = "none") -> ir.Value:
    return g.op("Gelu", x, approximate=approximate)


@_derivative("aten.gelu_backward")
def _gelu_derivative(g: GraphBuilder, node: fx.Node, x: ir.Value, *, approximate: str = "none") -> ir.Value:
    """P + x p with P and p the normal distribution and its density, or their approximation by tanh."""
    square = g.op("Mul", x, x)
    if approximate == "none":
        share = g.op("Add", g.op("Erf", g.op("Mul", x, g.scalar(1 / math.sqrt(2)))), g.scalar(1))
        density = g.op("Exp", g.op("Mul", square, g.scalar(-0.5)))
        bend = g.op("Mul", g.op("Mul", x, density), g.scalar(1 / math.sqrt(2 * math.pi)))
    else:
        cubic, root = 0.044715, math.sqrt(2 / math.pi)
        inner = g.op("Mul", x, g.op("Add", g.op("Mul", square, g.scalar(cubic * root)), g.scalar(root)))
        t = g.op("Tanh", inner)
        share = g.op("Add", t, g.scalar(1))
        steep = g.op("Sub", g.scalar(1), g.op("Mul", t, t))
        slope = g.op("Add", g.op("Mul", square, g.scalar(3 * cubic * root)), g.scalar(root))
        bend = g.op("Mul", g.op("Mul", g.op("Mul", x, steep), slope), g.scalar(0.5))
    return g.op("Add", g.op("Mul", share, g.scalar(0.5)), bend)
