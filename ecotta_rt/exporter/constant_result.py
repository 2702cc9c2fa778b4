"""Let torch compute what depends on nothing but weights: it knows every operator, and the device gets the result.

A weight that is standardised, scaled or cut at each call is one constant of the graph then, whether or not there are
ONNX rules for how it is made.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, fx

from ecotta_rt.exporter.builder import GraphBuilder, constant_of

__all__ = ["constant_result"]

_LARGEST = 1 << 16
"""Elements of a result that is still stored, if its inputs have fewer: an expanded number is cheaper made than kept."""


def constant_result(builder: GraphBuilder, node: fx.Node, values: Mapping[fx.Node, Any]) -> Any:
    """The result of `node` as one constant, or a tuple of them; None where it is none.

    Args:
        builder: Takes the constants.
        node: A call of an ATen operator.
        values: What the nodes before it became.
    """
    inputs = node.all_input_nodes
    arrays = {source: constant_of(values[source]) for source in inputs if not isinstance(values[source], tuple)}
    schema = getattr(node.target, "_schema", None)
    if not inputs or len(arrays) < len(inputs) or schema is None or schema.is_mutable:
        return None
    known = {source: torch.tensor(array) for source, array in arrays.items() if array is not None}
    if len(known) < len(inputs) or not str(node.target).startswith("aten."):
        return None
    arguments: Any = fx.node.map_arg(node.args, known.__getitem__)
    keywords: Any = fx.node.map_arg(node.kwargs, known.__getitem__)
    result = node.target(*arguments, **keywords)  # type: ignore[operator]
    results = result if isinstance(result, tuple | list) else (result,)
    most = max(_LARGEST, *(value.numel() for value in known.values()))
    if not all(isinstance(value, Tensor) and value.numel() <= most for value in results):
        return None
    constants = tuple(builder.constant(value.contiguous().numpy()) for value in results)
    return constants if isinstance(result, tuple | list) else constants[0]
