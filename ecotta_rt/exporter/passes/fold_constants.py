"""Compute once, here, what depends on nothing but constants.

Requires: nothing.
Ensures: no node has only constants as inputs, up to a size at which storing the result would cost more than it saves,
and but for operators that the reference evaluator cannot run.

onnxruntime does the same at every load; done here it costs a device neither the time nor the memory, and the passes
after this one see constants.
"""

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx.reference import ReferenceEvaluator

from ecotta_rt.exporter.builder import OPSET, constant_of
from ecotta_rt.exporter.rewriter import Rewriter

__all__ = ["fold_constants"]

_LARGEST = 1 << 16
"""Elements of a result that is still stored: an Expand of one number to a feature map is cheaper made than kept."""


def fold_constants(model: ir.Model) -> None:
    """Rewrite `model` in place."""
    rewriter = Rewriter(model.graph)
    for node in list(model.graph):
        inputs = [constant_of(value) for value in node.inputs if value is not None]
        if not inputs or node.domain or any(array is None for array in inputs):
            continue
        results = _evaluate(node)
        if results is not None and all(
            array.size <= max(_LARGEST, *(i.size for i in inputs if i is not None)) for array in results
        ):
            rewriter.replace(node, *(rewriter.constant(array) for array in results))
    rewriter.remove_dead_nodes()


def _evaluate(node: ir.Node) -> list[np.ndarray[Any, Any]] | None:
    """None where the reference evaluator cannot: the node stays, and onnxruntime folds it at load."""
    feeds = {str(v.name): constant_of(v) for v in node.inputs if v is not None}
    proto = ir.to_proto(node)
    inputs = [
        onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        for name, array in feeds.items()
        if array is not None
    ]
    outputs = [onnx.helper.make_empty_tensor_value_info(str(v.name)) for v in node.outputs]
    graph = onnx.helper.make_graph([proto], "one", inputs, outputs)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", OPSET)])
    try:
        return [np.asarray(result) for result in ReferenceEvaluator(model).run(None, feeds)]
    except Exception:  # it raises what its operators happen to: absent inputs that one of them reads, for example
        return None
