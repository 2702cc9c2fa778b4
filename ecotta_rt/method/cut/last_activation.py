"""Take the softmax or sigmoid at the end of a network off: adaptation wants its logits.

The gate of the step measures how uncertain a frame is by the entropy of softmax(logits). Of probabilities that is
nearly ln C whatever the frame shows: no frame would ever be certain enough to learn from.
"""

from torch import Tensor, fx, nn

from ecotta_rt.method.cut.tracing import describe, shape_of

__all__ = ["looks_like_probabilities", "take_off_last_activation"]

_MODULES = (nn.Softmax, nn.Softmax2d, nn.LogSoftmax, nn.Sigmoid, nn.LogSigmoid)
_NAMES = {"softmax", "log_softmax", "sigmoid", "sigmoid_", "logsigmoid", "expit", "special_softmax"}
_NAMES |= {"special_log_softmax", "special_expit"}
_PASSING_MODULES = (nn.Identity, nn.Flatten, nn.Unflatten, nn.modules.dropout._DropoutNd)
_PASSING_NAMES = {"flatten", "view", "reshape", "squeeze", "contiguous", "float", "dropout", "clone"}
_SUMMED = 1e-3
"""How far from 1 the sum of a row of probabilities may be: after a clamp, say."""


def take_off_last_activation(graph: fx.Graph, modules: dict[str, nn.Module]) -> str | None:
    """Remove it where the network ends in one, reshaped or not.

    Args:
        graph: Traced, with shapes; changed in place.
        modules: The network's modules by path.

    Returns:
        A line that says what was removed, None where nothing was.
    """
    node = graph.output_node().all_input_nodes[0]
    while _passes(node, modules) and node.all_input_nodes:
        node = node.all_input_nodes[0]
    if not _is_one(node, modules) or shape_of(node.all_input_nodes[0]) != shape_of(node):
        return None
    line = f"the network ends in a {_kind(node, modules)} ({describe(node)}): taken off, its logits are used"
    node.replace_all_uses_with(node.all_input_nodes[0])
    graph.erase_node(node)
    return line


def looks_like_probabilities(rows: Tensor) -> bool:
    """Whether all rows `[N, C]` are shares of 1."""
    sums = rows.sum(1)
    return bool((rows >= 0).all() and (rows <= 1).all() and ((sums - 1).abs() < _SUMMED).all())


def _is_one(node: fx.Node, modules: dict[str, nn.Module]) -> bool:
    if node.op == "call_module":
        return isinstance(modules.get(str(node.target)), _MODULES)
    return _function(node) in _NAMES


def _passes(node: fx.Node, modules: dict[str, nn.Module]) -> bool:
    if node.op == "call_module":
        return isinstance(modules.get(str(node.target)), _PASSING_MODULES)
    return _function(node) in _PASSING_NAMES


def _function(node: fx.Node) -> str:
    if node.op == "call_method":
        return str(node.target)
    return getattr(node.target, "__name__", "") if node.op == "call_function" else ""


def _kind(node: fx.Node, modules: dict[str, nn.Module]) -> str:
    name = type(modules[str(node.target)]).__name__ if node.op == "call_module" else _function(node)
    return name.removeprefix("special_").rstrip("_")
