"""Make a narrower network of a wide one: the first channels of each group, as a plain module.

    network, frames  ->  find_groups()  ->  narrow(groups, widths)  ->  nn.Module

The result is a network of the same class, its convolutions, norms and linear layers replaced by smaller ones. Where the
forward has numbers of channels written into it (a shortcut padded with zeros, a `view` with a size), these change too,
and the result is an `fx.GraphModule` with the same module paths.
"""

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn

from ecotta_rt.errors import NetworkError
from ecotta_rt.method.cut.tracing import describe
from ecotta_rt.method.width.groups import ChannelGroups, Widths
from ecotta_rt.method.width.id_arrays import channel_padding, function_name

__all__ = ["SliceOf", "narrow", "shrunk", "sizes_at", "slices_at"]

SliceOf = slice | Tensor
"""Index of the kept places of an axis: a slice where they follow one another."""

_KEPT_ATTRIBUTES = ("frame_size", "pretrained_cfg", "ignored_keys")
"""What a network may say about itself that its graph does not."""


def narrow(groups: ChannelGroups, widths: Widths) -> nn.Module:
    """The network with the first channels of each group alone.

    Args:
        groups: From `find_groups`; its network stays as it is.
        widths: Units kept, by group.

    Returns:
        A network with tensors of its own, its norms' statistics those of the wide one, which do not fit: see
        `student.slimmable.recalibrate`. Its mode is that of the wide one.

    Raises:
        UsageError: A width that leaves no channel, or a group that is not there.
    """
    kept = groups.kept(widths)
    network = copy.deepcopy(groups.network)
    for path, (out, into) in slices_at(groups, kept).items():
        owner, _, name = path.rpartition(".")
        small = shrunk(network.get_submodule(path), out, into)
        _own_tensors(small)
        setattr(network.get_submodule(owner), name, small)
    changed = dict(sizes_at(groups, kept))
    if not changed and not groups.rewritten:
        return network
    graph = copy.deepcopy(groups.graph)
    for new, old in zip(graph.nodes, groups.graph.nodes, strict=True):
        if old in changed:
            new.args, new.kwargs = _with_nodes_of(graph, changed[old])
    module = fx.GraphModule(network, graph, type(groups.network).__name__)
    for name in _KEPT_ATTRIBUTES:
        if hasattr(network, name):
            setattr(module, name, getattr(network, name))
    return module.train(groups.network.training)


def slices_at(groups: ChannelGroups, kept: NDArray[np.bool_]) -> dict[str, tuple[SliceOf, SliceOf | None]]:
    """Which output and input channels of each module are kept; modules that stay whole are left out."""
    found: dict[str, tuple[SliceOf, SliceOf | None]] = {}
    for path, slots in groups.followed.slots.items():
        out = groups.places(slots.out, kept)
        into = None if slots.into is None else groups.places(slots.into, kept)
        if len(out) == len(slots.out) and (into is None or slots.into is None or len(into) == len(slots.into)):
            continue
        found[path] = _index(out), None if into is None else _index(into)
    return found


def sizes_at(groups: ChannelGroups, kept: NDArray[np.bool_]) -> Iterator[tuple[fx.Node, tuple[Any, Any]]]:
    """Nodes that have numbers of channels written into them, and their arguments at another width.

    Raises:
        NetworkError: Numbers that cannot be told apart from others.
    """
    for node in groups.graph.nodes:
        name = function_name(node)
        if name == "pad":
            found = _padded(groups, node, kept)
        elif name in {"view", "reshape"} or (name == "getitem" and isinstance(node.args[1], tuple)):
            found = _reshaped(groups, node, kept) if name != "getitem" else _cut_out(groups, node, kept)
        else:
            continue
        if found is not None:
            yield node, found


def shrunk(module: nn.Module, out: SliceOf, into: SliceOf | None) -> nn.Module:
    """A narrower module whose weights are slices of this one's: what is learned there is learned here."""
    small = copy.copy(module)
    small._parameters = {
        name: None if value is None else _sliced(module, value, out, into)  # type: ignore[misc]
        for name, value in module._parameters.items()
    }
    small._buffers = {
        name: value if value is None or value.ndim == 0 else value[out] for name, value in module._buffers.items()
    }
    for name, size in _sizes(module, out, into):
        setattr(small, name, size)
    return small


def _sliced(module: nn.Module, value: Tensor, out: SliceOf, into: SliceOf | None) -> Tensor:
    if value.ndim == 1:
        return value[out]
    if isinstance(module, nn.modules.conv._ConvTransposeNd):  # [C_in, C_out, kh, kw]
        return value[into][:, out]
    if into is None or _is_depthwise(module):
        return value[out]
    return value[out][:, _inside_a_group(module, into)]


def _own_tensors(module: nn.Module) -> None:
    """Give a module from `shrunk` parameters of its own."""
    for name, value in module._parameters.items():
        if value is not None:
            own = value.detach().clone(memory_format=torch.contiguous_format)
            module._parameters[name] = nn.Parameter(own, requires_grad=value.requires_grad)
    for name, buffer in module._buffers.items():
        module._buffers[name] = None if buffer is None else buffer.detach().clone()


def _sizes(module: nn.Module, out: SliceOf, into: SliceOf | None) -> Iterator[tuple[str, Any]]:
    if isinstance(module, nn.modules.conv._ConvNd):
        assert into is not None
        yield "out_channels", _count(out, module.out_channels)
        yield "in_channels", _count(into, module.in_channels)
        if _is_depthwise(module):
            yield "groups", _count(into, module.in_channels)
    elif isinstance(module, nn.Linear):
        assert into is not None
        yield "out_features", _count(out, module.out_features)
        yield "in_features", _count(into, module.in_features)
    elif isinstance(module, nn.modules.batchnorm._NormBase):
        yield "num_features", _count(out, module.num_features)
    elif isinstance(module, nn.GroupNorm):
        yield "num_channels", _count(out, module.num_channels)
    elif isinstance(module, nn.PReLU):
        yield "num_parameters", _count(out, module.num_parameters)
    elif isinstance(module, nn.LayerNorm):
        yield "normalized_shape", (_count(out, module.normalized_shape[0]),)


def _is_depthwise(module: nn.Module) -> bool:
    return isinstance(module, nn.modules.conv._ConvNd) and module.groups == module.in_channels > 1


def _inside_a_group(module: nn.Module, into: SliceOf) -> SliceOf:
    """A grouped convolution has the inputs of one group as its axis, and keeps the same ones of each."""
    groups = getattr(module, "groups", 1)
    if groups == 1:
        return into
    assert isinstance(module, nn.modules.conv._ConvNd)
    places = np.arange(module.in_channels)[into if isinstance(into, slice) else into.numpy()]
    return _index(places[places < module.in_channels // groups])


def _index(places: NDArray[np.int64]) -> SliceOf:
    first, count = int(places[0]) if len(places) else 0, len(places)
    if np.array_equal(places, np.arange(first, first + count)):
        return slice(first, first + count)
    return torch.from_numpy(places)


def _count(index: SliceOf, size: int) -> int:
    return len(range(size)[index]) if isinstance(index, slice) else len(index)


def _padded(groups: ChannelGroups, node: fx.Node, kept: NDArray[np.bool_]) -> tuple[Any, Any] | None:
    ids = groups.followed.values.get(node)
    if not isinstance(ids, np.ndarray) or not ids.any():
        return None
    in_place = len(node.args) > 1
    amounts = list(node.args[1] if in_place else node.kwargs["pad"])  # type: ignore[arg-type]
    before, after = channel_padding(amounts, ids.ndim)
    if not before and not after:
        return None
    here = kept[groups.names[ids.reshape(len(ids), -1)[:, 0]]]
    at = 2 * (ids.ndim - 1)
    now = int(here[:before].sum()), int(here[len(here) - after :].sum())
    if now == (before, after):
        return None
    amounts[at], amounts[at + 1] = now
    if in_place:
        return (node.args[0], tuple(amounts), *node.args[2:]), node.kwargs
    return node.args, {**node.kwargs, "pad": tuple(amounts)}


def _reshaped(groups: ChannelGroups, node: fx.Node, kept: NDArray[np.bool_]) -> tuple[Any, Any] | None:
    ids = groups.followed.values.get(node)
    if not isinstance(ids, np.ndarray) or not ids.any():
        return None
    listed = len(node.args) == 2 and isinstance(node.args[1], tuple | list)
    given = node.args[1] if listed else node.args[1:]
    assert isinstance(given, tuple | list)
    here = kept[groups.names[ids]]
    sizes = list(given)
    for axis in range(ids.ndim):
        left = int(here.any(axis=tuple(other for other in range(ids.ndim) if other != axis)).sum())
        if axis + 1 < len(sizes) and isinstance(sizes[axis + 1], int) and sizes[axis + 1] > 0:
            sizes[axis + 1] = left
    if sizes == list(given):
        return None
    if len(sizes) != ids.ndim + 1:
        raise NetworkError(f"node '{node.name}' ({describe(node)}) cannot be made narrower: write its sizes one by one")
    return ((node.args[0], tuple(sizes)) if listed else (node.args[0], *sizes)), node.kwargs


def _cut_out(groups: ChannelGroups, node: fx.Node, kept: NDArray[np.bool_]) -> tuple[Any, Any] | None:
    """`x[:, 8:16]`: the same channels, at their new places."""
    source, index = node.args
    ids = groups.followed.values.get(source)  # type: ignore[arg-type]
    assert isinstance(index, tuple)
    if not isinstance(ids, np.ndarray) or not ids.any() or len(index) < 2 or index[1] in (slice(None), Ellipsis):
        return None
    if not isinstance(index[1], slice):
        return None
    here = kept[groups.names[ids.reshape(len(ids), -1)[:, 0]]]
    start, stop, step = index[1].indices(len(here))
    if step != 1:
        return None
    if here.all():
        return None
    moved = slice(int(here[:start].sum()), int(here[:stop].sum()))
    return (source, (index[0], moved, *index[2:])), node.kwargs


def _with_nodes_of(graph: fx.Graph, given: tuple[Any, Any]) -> tuple[Any, Any]:
    names = {node.name: node for node in graph.nodes}
    args, kwargs = (fx.node.map_arg(part, lambda node: names[node.name]) for part in given)
    return args, kwargs
