"""Write a traced step down as ONNX: one short rule for each ATen operator.

    fx.GraphModule of ATen operators  ->  lower()  ->  ir.Model of standard operators (and `ecotta.mask`)

An operator without a rule is an error that names it and the place in the network it came from. The rules stand in
`ecotta_rt/exporter/rules/`.
"""

import operator
from collections.abc import Mapping
from typing import Any

import onnx_ir as ir
from torch import Tensor, fx

from ecotta_rt.errors import NetworkError
from ecotta_rt.exporter.builder import GraphBuilder
from ecotta_rt.exporter.constant_result import constant_result
from ecotta_rt.exporter.overwritten import refuse_overwritten_views

# The first line is for their rules, which register themselves.
from ecotta_rt.exporter.rules import activation, conv, general, norm, pool  # noqa: F401
from ecotta_rt.exporter.rules.registry import DTYPES, dtype_of, find_rule, named, shape_at
from ecotta_rt.exporter.traced import Traced

__all__ = ["lower"]


def lower(traced: Traced, name: str) -> ir.Model:
    """Translate a traced function.

    Args:
        traced: From `trace_step`.
        name: Of the graph.

    Raises:
        NetworkError: An operator that has no rule here.
    """
    refuse_overwritten_views(traced.graph.graph)

    builder = GraphBuilder()
    values: dict[fx.Node, Any] = {}
    names = iter(traced.inputs)
    for node in traced.graph.graph.nodes:
        if node.op == "placeholder":
            values[node] = builder.input(next(names), dtype_of(node), shape_at(node))
        elif node.op == "get_attr":
            values[node] = builder.constant(_attribute(traced.graph, str(node.target)).numpy())
        elif node.op == "call_function":
            values[node] = _apply(builder, node, values)
            _note_shape(node, values[node])
        else:
            results = [values[argument] for argument in node.args[0]]
    return builder.finish(list(zip(traced.outputs, results, strict=True)), name)


def _attribute(module: fx.GraphModule, path: str) -> Tensor:
    value: Tensor = operator.attrgetter(path)(module)
    return value.detach()


def _note_shape(node: fx.Node, result: Any) -> None:
    """Write down what the trace knows, for the passes. Where a rule handed an argument on, it is known already."""
    known: Any = node.meta.get("val")
    pairs = zip(result, known, strict=False) if isinstance(result, tuple) else [(result, known)]
    for value, tensor in pairs:
        if isinstance(value, ir.Value) and value.shape is None and isinstance(tensor, Tensor):
            value.shape, value.type = ir.Shape([int(n) for n in tensor.shape]), ir.TensorType(DTYPES[tensor.dtype])


def _apply(builder: GraphBuilder, node: fx.Node, values: Mapping[fx.Node, Any]) -> Any:
    def known(argument: Any) -> Any:
        return fx.node.map_arg(argument, lambda source: values[source])

    if node.target is operator.getitem:
        return values[node.args[0]][node.args[1]]  # type: ignore[index]
    constant = constant_result(builder, node, values)
    if constant is not None:
        return constant
    function = find_rule(str(node.target))
    if function is None:
        raise NetworkError(
            f"{named(node)} cannot be exported: there is no ONNX rule for it. Replace that operator in the network, or "
            "add a rule to ecotta_rt/exporter/rules"
        )
    return function(builder, node, *map(known, node.args), **{key: known(v) for key, v in node.kwargs.items()})
