"""Find where a traced network can be cut: its single-tensor borders, and the cells between them.

A border is a place in the execution order where exactly one tensor is still needed later, and that tensor is a feature
map `[N, C, H, W]`. Stem, cells and head are the stretches between borders:

    stem   up to and including the first convolution with its norm, activation and pooling
    cell   one residual block where the network lists them, else the shortest stretch with a convolution in it
    head   what follows the last cell: final norm and activation, pooling, classifier

Not every border is a good one. A convolution stays with the norm and activation that follow it, an addition with the
activation that follows it, and the norm that opens a pre-activation block stays with that block. Nothing is cut before
an operation that overwrites its input (a meta group still needs it), after padding, nor where a frame has shrunk to
one pixel.
"""

import math
import operator
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import fx, nn

from ecotta_rt.errors import NetworkError
from ecotta_rt.method.cut.tracing import describe, shape_of

__all__ = ["Cells", "find_cells"]

_CONVOLUTIONS = (nn.modules.conv._ConvNd,)
_NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm)
_CONVOLUTION_NAMES = {"conv1d", "conv2d", "conv3d", "conv_transpose2d"}
_NORM_NAMES = {"batch_norm", "group_norm", "instance_norm", "layer_norm"}
_PADDINGS = (
    nn.modules.padding._ConstantPadNd,
    nn.modules.padding._ReflectionPadNd,
    nn.modules.padding._ReplicationPadNd,
)
_PADDING_NAMES = {"pad"}
_ACTIVATION_NAMES = {
    *("relu", "relu6", "leaky_relu", "prelu", "elu", "selu", "gelu", "silu", "mish", "sigmoid", "tanh", "clamp"),
    *("hardswish", "hardsigmoid", "hardtanh", "softplus", "dropout"),
}
_JOINS = {operator.add, operator.iadd, torch.add, torch.cat, torch.concat, "add", "add_"}
_IN_PLACE = {operator.iadd, operator.isub, operator.imul, operator.itruediv}


@dataclass(frozen=True)
class Cells:
    """Stem, cells and head as consecutive stretches of nodes; placeholder, output and constants are in none of them.

    Attributes:
        stem: Nodes of the stem.
        cells: Nodes of each cell, in order.
        head: Nodes of the head.
        names: Name of each cell: the block's module path, or where its last node stands.
        joined: Whether each cell ends in an addition or concatenation of branches (and its activation).
        channels: Channels of the feature map each cell hands on.
        limit: Why there are no more cells, as a clause.
    """

    stem: tuple[fx.Node, ...]
    cells: tuple[tuple[fx.Node, ...], ...]
    head: tuple[fx.Node, ...]
    names: tuple[str, ...]
    joined: tuple[bool, ...]
    channels: tuple[int, ...]
    limit: str


def find_cells(graph: fx.Graph, modules: dict[str, nn.Module], blocks: Sequence[str] = ()) -> Cells:
    """Divide a traced network into stem, cells and head.

    Args:
        graph: From `trace`, with shapes.
        modules: The network's modules by path.
        blocks: Paths of its residual blocks, in order; empty lets the borders decide.

    Returns:
        The stretches.

    Raises:
        NetworkError: No border, a block that is never called, or a block that ends where more than one tensor is live.
    """
    nodes = [node for node in graph.nodes if node.op not in ("placeholder", "get_attr", "output")]
    kinds = _Kinds(modules)
    live = _live_values(nodes, graph)
    ends = _block_ends(nodes, live, blocks) if blocks else _automatic_ends(nodes, live, kinds)
    stretches = [tuple(nodes[a:b]) for a, b in zip([0, *ends], [*ends, len(nodes)], strict=True)]
    inner = tuple(stretches[1:-1])
    names = tuple(blocks) if blocks else tuple(describe(stretch[-1]) for stretch in inner)
    limit = "network.blocks lists no more" if blocks else _limit(nodes, live)
    handed_on = [live[end][0] for end in ends[1:]]
    joined = tuple(kinds.is_join(value) for value in handed_on)
    channels = tuple((shape_of(value) or (0,))[0] for value in handed_on)
    return Cells(stretches[0], inner, stretches[-1], names, joined, channels, limit)


class _Kinds:
    """What a node computes, as far as cutting cares."""

    def __init__(self, modules: dict[str, nn.Module]) -> None:
        self._modules = modules

    def is_convolution(self, node: fx.Node) -> bool:
        return isinstance(self._module(node), _CONVOLUTIONS) or _function_name(node) in _CONVOLUTION_NAMES

    def is_norm(self, node: fx.Node) -> bool:
        return isinstance(self._module(node), _NORMS) or _function_name(node) in _NORM_NAMES

    def is_padding(self, node: fx.Node) -> bool:
        return isinstance(self._module(node), _PADDINGS) or _function_name(node) in _PADDING_NAMES

    def is_activation(self, node: fx.Node) -> bool:
        """An activation, or what may stand between one and its norm: nothing, or dropout."""
        module = self._module(node)
        if isinstance(module, nn.Identity | nn.modules.dropout._DropoutNd):
            return True
        if module is not None:
            return type(module).__module__ == nn.ReLU.__module__ and not isinstance(module, nn.MultiheadAttention)
        return _function_name(node) in _ACTIVATION_NAMES

    def is_join(self, node: fx.Node) -> bool:
        """An addition or concatenation of branches, or the activation that follows one."""
        if self.is_activation(node) and node.all_input_nodes:
            node = node.all_input_nodes[0]
        return node.target in _JOINS and len(node.all_input_nodes) > 1

    def overwrites(self, node: fx.Node, value: fx.Node) -> bool:
        """Whether `node` changes `value` in place."""
        if not node.args or node.args[0] is not value:
            return False
        if node.op == "call_module":
            return bool(getattr(self._module(node), "inplace", False))
        if node.op == "call_method":
            return str(node.target).endswith("_") and not str(node.target).endswith("__")
        named_in_place = getattr(node.target, "__name__", "").endswith("_")
        return node.target in _IN_PLACE or named_in_place or bool(node.kwargs.get("inplace"))

    def _module(self, node: fx.Node) -> nn.Module | None:
        return self._modules.get(str(node.target)) if node.op == "call_module" else None


def _function_name(node: fx.Node) -> str:
    if node.op == "call_method":
        return str(node.target).rstrip("_")
    return getattr(node.target, "__name__", "").rstrip("_") if node.op == "call_function" else ""


def _live_values(nodes: list[fx.Node], graph: fx.Graph) -> list[list[fx.Node]]:
    """For each place `i` in `nodes`, the values made before it and needed at or after it."""
    place = {node: index for index, node in enumerate(nodes)}
    live: list[list[fx.Node]] = [[] for _ in range(len(nodes) + 1)]
    for node in graph.nodes:
        if node.op in ("get_attr", "output"):
            continue
        made = place.get(node, -1)
        last = max((place.get(user, len(nodes)) for user in node.users), default=made)
        for index in range(made + 1, last + 1):
            live[index].append(node)
    return live


def _is_border(values: list[fx.Node]) -> bool:
    return len(values) == 1 and len(shape_of(values[0]) or ()) == 3


def _block_ends(nodes: list[fx.Node], live: list[list[fx.Node]], blocks: Sequence[str]) -> list[int]:
    """Stem's end, then the end of each block: where the next block begins, for the last one after its last node."""
    spans = []
    for block in blocks:
        inside = [index for index, node in enumerate(nodes) if block in node.meta.get("nn_module_stack", {})]
        if not inside:
            raise NetworkError(f"block '{block}' of network.blocks is never called; list modules that forward calls")
        spans.append((inside[0], inside[-1] + 1))
    ends = [start for start, _ in spans] + [spans[-1][1]]
    for block, end in zip(["the stem", *blocks], ends, strict=True):
        if not _is_border(live[end]):
            held = ", ".join(f"'{value.name}' ({describe(value)})" for value in live[end])
            raise NetworkError(
                f"cannot cut after {block}: needed later are {held}, and a cut needs exactly one feature map "
                "[N, C, H, W]. Leave that block out of network.blocks"
            )
    return ends


def _automatic_ends(nodes: list[fx.Node], live: list[list[fx.Node]], kinds: _Kinds) -> list[int]:
    """Stem's end and each cell's, from the natural borders: `stem | cell | ... | cell | head`."""
    places = [i for i in range(1, len(nodes)) if _is_border(live[i]) and _is_natural(live[i][0], kinds)]
    # holds[i]: whether the stretch that ends at places[i] (the last one: at the network's end) holds a convolution
    stretches = pairwise([0, *places, len(nodes)])
    holds = [any(kinds.is_convolution(node) for node in nodes[start:end]) for start, end in stretches]
    if not any(holds):
        raise NetworkError("the network calls no convolution, so there is no feature map to adapt")
    stem, last = holds.index(True), len(holds) - 1 - holds[::-1].index(True)
    # A stretch without a convolution (pooling, say) joins the cell before it; those at the end join the head.
    ends = [end for i, end in enumerate(places) if i >= stem and (i == last or holds[i + 1])]
    if len(ends) < 2:
        raise NetworkError(f"no place to cut this network: {_limit(nodes, live)}")
    return ends


def _is_natural(value: fx.Node, kinds: _Kinds) -> bool:
    """Whether a cut right after `value` keeps together what belongs together; see the module's docstring."""
    users = list(value.users)
    if any(kinds.overwrites(user, value) for user in users):
        return False
    if kinds.is_padding(value) or math.prod((shape_of(value) or ())[1:]) == 1:
        return False
    origin, normed = value, False
    while (kinds.is_norm(origin) or kinds.is_activation(origin)) and origin.all_input_nodes:
        normed = normed or kinds.is_norm(origin)
        origin = origin.all_input_nodes[0]
    follower = users[0] if len(users) == 1 else None
    if kinds.is_convolution(origin):
        return follower is None or not (kinds.is_norm(follower) or kinds.is_activation(follower))
    return not normed and (follower is None or not kinds.is_activation(follower))


def _limit(nodes: list[fx.Node], live: list[list[fx.Node]]) -> str:
    """What stands in the way of most cuts: a value kept over many operations, or values that are no feature maps."""
    rule = "a cut needs a place where exactly one feature map [N, C, H, W] is needed later"
    alone = [values[0] for values in live[1:] if len(values) == 1 and not _is_border(values)]
    bridge, span = Counter(value for values in live for value in values).most_common(1)[0]
    if len(alone) > span:
        value = alone[0]
        return f"{rule}, and from '{value.name}' ({describe(value)}) on there are values of shape {_batched(value)}"
    return f"{rule}, and '{bridge.name}' ({describe(bridge)}) is kept over {span} of its {len(nodes)} operations"


def _batched(value: fx.Node) -> str:
    return f"[N, {', '.join(map(str, shape_of(value) or ('...',)))}]"
