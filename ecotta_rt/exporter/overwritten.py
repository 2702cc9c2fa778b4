"""Refuse what a flat trace cannot say: memory changed in place that is read again under another name.

    y = x[:, :4]; y.mul_(2); use(x)        in torch `x` has changed too, in the trace it has not

A graph has values and no memory. An in-place operator becomes a new value, and torch's tracer lets all later readers of
that very tensor read it; another view of the same memory still stands for the old one.
"""

import operator

from torch import fx

from ecotta_rt.errors import NetworkError

__all__ = ["refuse_overwritten_views"]


def refuse_overwritten_views(graph: fx.Graph) -> None:
    """Check every in-place operator of a traced graph.

    Raises:
        NetworkError: One changes memory that is read later through another view.
    """
    place = {node: index for index, node in enumerate(graph.nodes)}
    owner: dict[fx.Node, fx.Node] = {}  # the node that made the memory in which a node's result lies
    sharers: dict[fx.Node, list[fx.Node]] = {}
    for node in graph.nodes:
        source, overwrites = _shared(node)
        owner[node] = node if source is None else owner[source]
        earlier = sharers.setdefault(owner[node], [])
        for other in earlier if overwrites else ():
            late = [user for user in other.users if place[user] > place[node]]
            if late:
                raise NetworkError(
                    f"{node.target} works in place, and {late[0].target} reads the same memory later through another "
                    "view: a graph cannot say that. Use the form that is not in place in the network"
                )
        earlier.append(node)


def _shared(node: fx.Node) -> tuple[fx.Node | None, bool]:
    """The argument whose memory the result lies in, and whether it is overwritten."""
    if node.target is operator.getitem:
        whole = node.args[0]
        # Of a split's pieces; the results of other operators are apart.
        return (whole, False) if isinstance(whole, fx.Node) and _shared(whole)[0] is not None else (None, False)
    schema = getattr(node.target, "_schema", None)
    for argument, given in zip(schema.arguments if schema else (), node.args, strict=False):
        if argument.alias_info is not None and isinstance(given, fx.Node):
            return given, bool(argument.alias_info.is_write)
    return None, False
