"""Make a traced network say nothing about the number of frames, so that its pieces take any.

Two habits of forwards tie a graph to the batch it was traced with: the batch size, read once and carried along, and
`x.squeeze()`, which for a single frame removes the batch axis as well.
"""

import torch
from torch import fx

from ecotta_rt.method.cut.tracing import shape_of

__all__ = ["follow_the_live_tensor", "keep_the_batch_axis"]


def follow_the_live_tensor(graph: fx.Graph) -> None:
    """Read the batch size where it is used.

    `n = frames.size(0)` at the top of a forward and `x.view(n, -1)` at its end keep a number alive over the whole
    network and would leave no border. Every tensor with a batch axis knows it, so each use reads it off its own input.
    """
    for node in list(graph.nodes):
        if not node.meta.get("scalar_is_batch"):
            continue
        for user in list(node.users):
            source = user.args[0] if user.args else None
            if isinstance(source, fx.Node) and shape_of(source) is not None:
                with graph.inserting_before(user):
                    size = graph.call_method("size", (source, 0))
                user.replace_input_with(node, size)
    graph.eliminate_dead_code(is_impure_node=_may_not_go)


def keep_the_batch_axis(graph: fx.Graph) -> None:
    """Let each bare `squeeze` name the axes that it removes from two frames or more."""
    for node in graph.nodes:
        source = node.args[0] if node.args else None
        bare = node.target in ("squeeze", torch.squeeze) and len(node.args) == 1 and not node.kwargs
        if bare and isinstance(source, fx.Node) and shape_of(source) is not None:
            node.args = (source, tuple(axis for axis, side in enumerate(shape_of(source) or (), 1) if side == 1))


def _may_not_go(node: fx.Node) -> bool:
    # Only numbers read off tensors are removed: a statement without a result may still change a tensor in place.
    return "shape" in node.meta or node.op in ("placeholder", "output")
