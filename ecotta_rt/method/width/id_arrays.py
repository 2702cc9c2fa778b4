"""Arrays of channel numbers: how they look along pixels, and what shape operations do to them."""

import operator
from collections.abc import Iterator
from typing import Any

import numpy as np
from torch import fx

from ecotta_rt.method.width.units import Ids

__all__ = [
    "Opaque",
    "along_last",
    "arrays_in",
    "as_view",
    "channel_padding",
    "function_name",
    "per_channel",
    "permuted",
    "spread",
    "thin",
    "varies",
    "without_nodes",
]


class Opaque(Exception):
    """This operation is not understood: its channels stay."""


def function_name(node: fx.Node) -> str:
    """What a node calls, a method or a function, without the underscore of those that work in place; "" for others."""
    if node.op == "call_method":
        return str(node.target).rstrip("_")
    if node.op != "call_function":
        return ""
    if node.target is getattr:
        return "getattr"
    if node.target is operator.getitem:
        return "getitem"
    return str(getattr(node.target, "__name__", "")).rstrip("_")


def arrays_in(value: Any) -> Iterator[Ids]:
    """Those of a tensor, or of each tensor in a tuple."""
    if isinstance(value, np.ndarray):
        yield value
    elif isinstance(value, tuple):
        yield from value


def thin(ids: Ids) -> Ids:
    """One entry along each axis that it is broadcast over."""
    return ids[tuple(slice(0, 1) if stride == 0 else slice(None) for stride in ids.strides)]


def varies(ids: Ids, axis: int) -> bool:
    """Whether there are different channels along an axis."""
    return ids.shape[axis] > 1 and ids.strides[axis] != 0 and bool((ids != ids.take([0], axis)).any())


def as_view(ids: Ids) -> Ids:
    """The same numbers, broadcast along the axes over which they do not vary."""
    varying = ids[tuple(slice(None) if varies(ids, axis) else slice(0, 1) for axis in range(ids.ndim))]
    return np.broadcast_to(varying, ids.shape)


def spread(channels: Ids, shape: tuple[int, ...]) -> Ids:
    """The same channels at every place of a tensor of this shape."""
    return np.broadcast_to(channels.reshape(-1, *[1] * (len(shape) - 1)), shape)


def per_channel(ids: Ids) -> Ids:
    """The numbers along the channel axis, where they are the same at every place."""
    if any(varies(ids, axis) for axis in range(1, ids.ndim)):
        raise Opaque
    return ids.reshape(ids.shape[0], -1)[:, 0] if ids.ndim > 1 else ids


def along_last(ids: Ids) -> Ids:
    """The numbers along the last axis, which is what a linear layer reads."""
    if any(varies(ids, axis) for axis in range(ids.ndim - 1)):
        raise Opaque
    last: Ids = ids[(0,) * (ids.ndim - 1)]
    return last


def channel_padding(amounts: Any, rank: int) -> tuple[int, int]:
    """How many zero channels `F.pad` puts before and after; amounts are given from the last axis backwards."""
    at = 2 * (rank - 1)
    return (amounts[at], amounts[at + 1]) if len(amounts) > at + 1 else (0, 0)


def permuted(node: fx.Node, ids: Ids) -> Ids:
    """What `permute` and `transpose` do, with the batch first before and after."""
    rank, given = ids.ndim + 1, node.args[1:]
    if given and isinstance(given[0], tuple | list):
        given = tuple(given[0])
    axes = [axis % rank for axis in given if isinstance(axis, int)]
    if not axes or len(axes) < len(given):
        raise Opaque
    if function_name(node) == "transpose":
        order = list(range(rank))
        order[axes[0]], order[axes[1]] = axes[1], axes[0]
        axes = order
    if axes[0] != 0:
        raise Opaque
    return ids.transpose([axis - 1 for axis in axes[1:]])


def without_nodes(one: slice) -> bool:
    """Whether a slice has no ends that are computed."""
    return not any(isinstance(value, fx.Node) for value in (one.start, one.stop, one.step))
