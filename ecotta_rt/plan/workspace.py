"""What operators take for themselves while they run, beside inputs and outputs.

Read from onnxruntime 1.31.1 with `session.collect_node_memory_stats_to_file` (its column total_temp_allocations), and
from its sources: onnxruntime/core/providers/cpu/tensor/where_op.cc, core/mlas/lib/convolve.cpp (the choice between one
whole column matrix and a segment a thread) and core/providers/cpu/nn/conv_transpose.cc.
"""

import math
from collections.abc import Mapping

from ecotta_rt.files.onnx_graph import Node
from ecotta_rt.plan.shapes import Tensor

__all__ = ["workspace_bytes"]

_SEGMENT_BYTES = 65536
_FLOAT_BYTES = 4
_NOTHING = Tensor(0, None)


def workspace_bytes(node: Node, values: Mapping[str, Tensor], threads: int) -> tuple[int, ...]:
    """Sizes of the pieces that a node takes and gives back, all at the same time.

    Args:
        node: The operator.
        values: Every tensor of the graph.
        threads: Threads within one operator.
    """
    output = values.get(node.outputs[0], _NOTHING) if node.outputs else _NOTHING
    if node.op == "Where":  # each choice is written out, then both are added
        return output.bytes, output.bytes
    if node.op in ("Conv", "FusedConv") and node.domain != "com.microsoft.nchwc":
        return _columns(node, values, output, threads)
    if node.op == "ConvTranspose":
        taken, weight = (values.get(name, _NOTHING).shape for name in node.inputs[:2])
        if taken is not None and weight is not None:
            return (_FLOAT_BYTES * math.prod(weight[1:]) * math.prod(taken[2:]),)
    return ()


def _columns(node: Node, values: Mapping[str, Tensor], output: Tensor, threads: int) -> tuple[int, ...]:
    weight = values.get(node.inputs[1], _NOTHING).shape
    if weight is None or output.shape is None:
        return ()
    strides, pads = node.attributes.get("strides", (1,)), node.attributes.get("pads", (0,))
    if math.prod(weight[2:]) == 1 and set(strides) == {1} and set(pads) == {0}:  # type: ignore[arg-type]
        return ()  # a matrix product as it stands
    filters, places = weight[0], math.prod(output.shape[2:])
    group = node.attributes.get("group", 1)
    if isinstance(group, int) and filters // group > places:
        return (_FLOAT_BYTES * math.prod(weight[1:]) * places,)
    return (_SEGMENT_BYTES * threads,)
