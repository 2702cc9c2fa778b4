"""Multiply-accumulates of a traced network.

One multiplication with its addition counts as one. Counted are convolutions and linear layers, as modules or functions,
and matrix products; norms, activations, pooling and additions count nothing (under 2 % of a convolutional network).
"""

import math
from collections.abc import Iterable

from torch import Tensor, fx, nn

from ecotta_rt.method.cut.tracing import shape_of

__all__ = ["macs"]


def macs(nodes: Iterable[fx.Node], network: nn.Module) -> int:
    """Multiply-accumulates of `nodes` for one frame.

    Args:
        nodes: Nodes of a graph from `ecotta_rt.method.cut.tracing.trace`, or of a piece cut from it.
        network: The module that owns the weights: the traced network, or the piece.

    Returns:
        The count; whole, per frame.
    """
    return sum(_node_macs(node, network) for node in nodes)


def _node_macs(node: fx.Node, network: nn.Module) -> int:
    out = shape_of(node)
    if out is None:
        return 0
    if node.op == "call_module":
        module = network.get_submodule(str(node.target))
        if isinstance(module, nn.modules.conv._ConvTransposeNd | nn.modules.conv._ConvNd | nn.Linear):
            return _weight_macs(module.weight, out, node, isinstance(module, nn.modules.conv._ConvTransposeNd))
        return 0
    name = getattr(node.target, "__name__", str(node.target))
    if name in ("conv2d", "conv_transpose2d", "linear"):
        weight = node.args[1] if len(node.args) > 1 else node.kwargs["weight"]
        if isinstance(weight, fx.Node) and weight.op == "get_attr":
            return _weight_macs(_attribute(network, str(weight.target)), out, node, name == "conv_transpose2d")
    if name in ("matmul", "bmm"):
        left = shape_of(node.all_input_nodes[0])
        return math.prod(out) * left[-1] if left else 0
    return 0


def _weight_macs(weight: Tensor, out: tuple[int, ...], node: fx.Node, transposed: bool) -> int:
    if transposed:  # weight [C_in, C_out / groups, kh, kw]: every input element meets one filter
        inputs = shape_of(node.all_input_nodes[0])
        return math.prod(inputs or ()) * weight[0].numel()
    if weight.ndim == 2:  # [C_out, C_in]: every output element is one row
        return math.prod(out) * weight.shape[1]
    return math.prod(out) * weight[0].numel()  # [C_out, C_in / groups, kh, kw]


def _attribute(network: nn.Module, path: str) -> Tensor:
    owner, _, name = path.rpartition(".")
    value: Tensor = getattr(network.get_submodule(owner), name)
    return value
