"""The register of lowering rules, and what every rule needs to know of a traced node.

A rule takes the builder, the traced node and its arguments as ONNX values, and returns the result. Rules stand in the
other files of this folder and register themselves when these are imported; `lowering` imports and applies them all.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from torch import fx

from ecotta_rt.exporter.builder import constant_of

__all__ = ["DTYPES", "Rule", "dtype_of", "find_rule", "is_number", "named", "rule", "shape_at"]

Rule = Callable[..., Any]
"""(builder, node, *arguments, **keywords) -> ir.Value, or a tuple of them."""

_RULES: dict[str, Rule] = {}

DTYPES = {
    torch.float32: ir.DataType.FLOAT,
    torch.float64: ir.DataType.DOUBLE,
    torch.bool: ir.DataType.BOOL,
    torch.int64: ir.DataType.INT64,
    torch.int32: ir.DataType.INT32,
    torch.uint8: ir.DataType.UINT8,
}


def rule(*targets: str) -> Callable[[Rule], Rule]:
    """Register a rule for ATen operators by name, without overload: `aten.relu`, and its in-place form."""

    def register(function: Rule) -> Rule:
        for target in targets:
            _RULES[target] = function
        return function

    return register


def find_rule(target: str) -> Rule | None:
    """The rule of an ATen operator with overload, or of the operator that it is the in-place form of."""
    name = target.rpartition(".")[0]
    return _RULES.get(name) or _RULES.get(name.removesuffix("_"))


def shape_at(node: fx.Node) -> tuple[int, ...]:
    """Shape of the tensor at a traced node."""
    return tuple(int(side) for side in node.meta["val"].shape)


def named(node: fx.Node) -> str:
    """A traced operator as its owner can find it: with the module that calls it, as far as the trace knows."""
    modules = list(node.meta.get("nn_module_stack", {}))
    return f"{node.target} in '{modules[-1]}'" if modules and modules[-1] else str(node.target)


def dtype_of(node: fx.Node) -> ir.DataType:
    """Element type of the tensor at a traced node."""
    return DTYPES[node.meta["val"].dtype]


def is_number(value: Any, number: float) -> bool:
    """Whether `value`, a number or a constant, is `number` throughout."""
    array = constant_of(value) if isinstance(value, ir.Value) else np.asarray(value)
    return array is not None and array.size > 0 and bool((array == number).all())
