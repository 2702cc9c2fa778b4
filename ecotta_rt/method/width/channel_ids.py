"""Follow every channel of a traced network from where it is made to where it is used.

    graph with shapes  ->  follow_channels()  ->  a number for each channel of each tensor, and which belong together

Each output channel of a convolution or linear layer gets a number of its own. An addition makes two channels one, a
concatenation or a zero-padded shortcut puts numbers side by side, a flattening repeats them, a depthwise convolution
hands them on, and a grouped one ties those at the same place of each group. What is joined is kept or removed together:
a *unit*. Number 0 stands for channels that have to stay: those of the frames, of the logits, and of operations that are
not understood here, each of which is noted with its name.

Arrays of numbers have the shape of one frame's tensor; along pixels they are broadcast, so they cost nothing.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from torch import fx, nn

from ecotta_rt.method.cut.normalise import Normalise
from ecotta_rt.method.cut.tracing import describe, shape_of
from ecotta_rt.method.width.id_arrays import (
    Opaque,
    along_last,
    arrays_in,
    as_view,
    channel_padding,
    function_name,
    per_channel,
    permuted,
    spread,
    thin,
    varies,
    without_nodes,
)
from ecotta_rt.method.width.units import WHOLE, Ids, Units

__all__ = ["Followed", "Slots", "follow_channels"]

_ELEMENTWISE = {
    *("relu", "relu6", "leaky_relu", "elu", "selu", "gelu", "silu", "mish", "sigmoid", "tanh", "clamp", "softplus"),
    *("hardswish", "hardsigmoid", "hardtanh", "threshold", "dropout", "dropout2d", "feature_dropout", "alpha_dropout"),
    *("add", "iadd", "sub", "isub", "subtract", "mul", "imul", "truediv", "div", "pow", "neg", "abs", "sqrt", "rsqrt"),
    *("contiguous", "clone", "float", "to", "detach", "type", "type_as", "minimum", "maximum", "square", "exp", "log"),
}
_POOLING = {
    *("avg_pool2d", "max_pool2d", "adaptive_avg_pool2d", "adaptive_max_pool2d", "lp_pool2d", "interpolate", "upsample"),
    *("boolean_dispatch", "max_pool2d_with_indices"),  # what F.max_pool2d is called inside
}
_RESHAPING = {"flatten", "view", "reshape", "squeeze", "unsqueeze"}
_SIZES = {"size", "getattr", "dim"}
_REDUCING = {"mean", "amax", "sum", "max", "std", "var"}

_POOLING_MODULES = (
    *(nn.modules.pooling._MaxPoolNd, nn.modules.pooling._AvgPoolNd, nn.modules.pooling._AdaptiveAvgPoolNd),
    *(nn.modules.pooling._AdaptiveMaxPoolNd, nn.modules.pooling._LPPoolNd, nn.Upsample),
    *(nn.modules.padding._ConstantPadNd, nn.modules.padding._ReflectionPadNd, nn.modules.padding._ReplicationPadNd),
)
_MIXING_ACTIVATIONS = (nn.Softmax, nn.Softmax2d, nn.LogSoftmax, nn.Softmin, nn.GLU, nn.MultiheadAttention)


class Slots(NamedTuple):
    """The numbers along the axes of one module's weights; `into` is None where it has no axis of inputs, as a norm."""

    out: Ids
    into: Ids | None


class Followed(NamedTuple):
    """What `follow_channels` found: the numbers of each tensor, of each module's weights, and the units."""

    values: dict[fx.Node, Any]
    slots: dict[str, Slots]
    units: Units


def follow_channels(graph: fx.Graph, network: nn.Module) -> Followed:
    """Number the channels of every tensor in `graph`.

    Args:
        graph: From `trace`, its norms plain (`plain_norms`).
        network: What it was traced from.
    """
    follower = _Follower(dict(network.named_modules()))
    for node in graph.nodes:
        follower.visit(node)
    return Followed(follower.values, follower.slots, follower.units)


class _Follower:
    def __init__(self, modules: dict[str, nn.Module]) -> None:
        self.values: dict[fx.Node, Any] = {}
        self.slots: dict[str, Slots] = {}
        self.units = Units()
        self._modules = modules

    def visit(self, node: fx.Node) -> None:
        if node.op == "output":
            self.units.keep_whole(self.values[node.all_input_nodes[0]])
            return
        shape = shape_of(node)
        if shape is None:
            self._visit_other(node)
            return
        if node.op == "placeholder":
            self.values[node] = np.broadcast_to(np.int64(WHOLE), shape)
            return
        try:
            found = self._module(node, shape) if node.op == "call_module" else self._function(node, shape)
        except Opaque:
            found = self._opaque(node, shape)
        assert found.shape == shape, f"{node.name}: {found.shape}, expected {shape}"
        self.values[node] = found

    def _visit_other(self, node: fx.Node) -> None:
        """What is no tensor with a row a frame: a size, a tuple of tensors, a constant, a batch that has been moved."""
        if function_name(node) in _SIZES:
            return  # asked again at each width
        if function_name(node) == "chunk" and isinstance(node.args[0], fx.Node):
            parts = self._chunk(node, self.values.get(node.args[0]))
            if parts is not None:
                self.values[node] = parts
                return
        self._opaque(node, None)

    def _opaque(self, node: fx.Node, shape: tuple[int, ...] | None) -> Ids:
        for source in node.all_input_nodes:
            for ids in arrays_in(self.values.get(source)):
                self.units.keep_whole(ids, f"node '{node.name}' ({describe(node)})")
        return np.broadcast_to(np.int64(WHOLE), shape or ())

    def _module(self, node: fx.Node, shape: tuple[int, ...]) -> Ids:
        module, path = self._modules[str(node.target)], str(node.target)
        ids = self._given(node)
        if isinstance(module, nn.Conv2d | nn.Conv1d | nn.ConvTranspose2d):
            return spread(self._convolve(module, path, per_channel(ids)), shape)
        if isinstance(module, nn.Linear):
            into = along_last(ids)
            out = self._slot(path, into, lambda: self.units.new(module.out_features))
            return np.broadcast_to(out, shape)
        if isinstance(module, nn.GroupNorm):
            rows = per_channel(ids).reshape(module.num_groups, -1)
            self.units.join(rows, np.broadcast_to(rows[:1], rows.shape))
            self._slot(path, None, lambda: per_channel(ids))
            return ids
        if isinstance(module, nn.modules.batchnorm._NormBase) or (
            isinstance(module, nn.PReLU) and module.weight.numel() > 1
        ):
            self._slot(path, None, lambda: per_channel(ids))
            return ids
        if isinstance(module, nn.LayerNorm) and len(module.normalized_shape) == 1:
            self._slot(path, None, lambda: along_last(ids))
            return ids
        if isinstance(module, _POOLING_MODULES) and shape[0] == ids.shape[0]:
            return spread(per_channel(ids), shape)
        if isinstance(module, nn.Flatten | nn.Unflatten):
            return self._reshape(ids, shape)
        passes = isinstance(module, nn.Identity | nn.modules.dropout._DropoutNd | Normalise | nn.PReLU)
        activation = type(module).__module__ == nn.ReLU.__module__ and not isinstance(module, _MIXING_ACTIVATIONS)
        if (passes or activation) and shape == ids.shape:
            return ids
        raise Opaque

    def _convolve(self, module: Any, path: str, into: Ids) -> Ids:
        groups, units = module.groups, self.units
        if groups == 1:
            return self._slot(path, into, lambda: units.new(module.out_channels))
        if isinstance(module, nn.ConvTranspose2d):
            raise Opaque
        if groups == module.in_channels:  # depthwise
            return self._slot(path, into, lambda: np.repeat(into, module.out_channels // groups))
        rows = into.reshape(groups, -1)
        units.join(rows, np.broadcast_to(rows[:1], rows.shape))
        made = np.tile(units.new(module.out_channels // groups), groups)
        return self._slot(path, into, lambda: made)

    def _slot(self, path: str, into: Ids | None, make: Callable[[], Ids]) -> Ids:
        """The numbers of a module's outputs; a module that is called twice has the same for both calls."""
        known = self.slots.get(path)
        if known is None:
            known = self.slots[path] = Slots(make(), into)
            return known.out
        if into is None:
            self.units.join(known.out, make())
        else:
            assert known.into is not None
            self.units.join(known.into, into)
        return known.out

    def _function(self, node: fx.Node, shape: tuple[int, ...]) -> Ids:
        name = function_name(node)
        if name == "getitem":
            return self._item(node, shape)
        if name in {"cat", "concat", "concatenate"}:
            return self._concatenate(node)
        ids = self._given(node)
        if name in _ELEMENTWISE:
            return self._elementwise(node, shape)
        if name in _POOLING and shape[0] == ids.shape[0]:
            return spread(per_channel(ids), shape)
        if name in _RESHAPING:
            return self._reshape(ids, shape)
        if name in _REDUCING:
            return self._reduce(node, ids, shape)
        if name == "pad":
            return self._pad(node, ids, shape)
        if name == "permute" or name == "transpose":
            return permuted(node, ids)
        raise Opaque

    def _given(self, node: fx.Node) -> Ids:
        source = node.args[0] if node.args else node.kwargs.get("input")
        ids = self.values.get(source) if isinstance(source, fx.Node) else None
        if not isinstance(ids, np.ndarray):
            raise Opaque
        return ids

    def _elementwise(self, node: fx.Node, shape: tuple[int, ...]) -> Ids:
        if node.kwargs.get("out") is not None:
            raise Opaque
        joined: Ids | None = None
        for source in node.all_input_nodes:
            ids = self.values.get(source)
            if ids is None:
                own: tuple[int, ...] | None = source.meta.get("shape")
                if own is None or len(own) == 0 or set(own) == {1}:
                    continue  # a number
                raise Opaque  # a constant of the network with a value a channel
            if not isinstance(ids, np.ndarray) or ids.ndim != len(shape):
                raise Opaque
            if ids.shape[0] == 1 != shape[0]:
                continue  # one map for all channels, such as an attention over places
            here = np.broadcast_to(ids, shape)
            if joined is None:
                joined = here
            else:
                self.units.join(*np.broadcast_arrays(thin(joined), thin(here)))
        if joined is None:
            return np.broadcast_to(np.int64(WHOLE), shape)
        return joined

    def _reshape(self, ids: Ids, shape: tuple[int, ...]) -> Ids:
        found = ids.reshape(shape) if thin(ids).size > 1 else np.broadcast_to(thin(ids).ravel()[0], shape)
        varying = [axis for axis in range(found.ndim) if varies(found, axis)]
        # Of channels on two axes, [groups, channels of a group], the first stays whole.
        for axis in varying[:-1]:
            self.units.join(found, np.broadcast_to(found.take([0], axis), found.shape))
        return as_view(found)

    def _reduce(self, node: fx.Node, ids: Ids, shape: tuple[int, ...]) -> Ids:
        given = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim")
        axes = (given,) if isinstance(given, int) else given
        if not isinstance(axes, tuple | list) or not all(isinstance(axis, int) for axis in axes):
            raise Opaque
        rank = ids.ndim + 1
        dropped = sorted({axis % rank - 1 for axis in axes if isinstance(axis, int)})
        if dropped[0] < 0:
            raise Opaque
        if any(varies(ids, axis) for axis in dropped):  # over channels: any number of them has a mean
            return np.broadcast_to(np.int64(WHOLE), shape)
        return as_view(
            ids[tuple(slice(0, 1) if axis in dropped else slice(None) for axis in range(ids.ndim))].reshape(shape)
        )

    def _pad(self, node: fx.Node, ids: Ids, shape: tuple[int, ...]) -> Ids:
        amounts = node.args[1] if len(node.args) > 1 else node.kwargs.get("pad")
        if not isinstance(amounts, tuple | list) or not all(isinstance(amount, int) for amount in amounts):
            raise Opaque
        before, after = channel_padding(amounts, ids.ndim)
        channels = per_channel(ids)
        if min(before, after) < 0:
            raise Opaque
        return spread(np.concatenate([self.units.new(before), channels, self.units.new(after)]), shape)

    def _concatenate(self, node: fx.Node) -> Ids:
        tensors = node.args[0] if node.args else node.kwargs.get("tensors")
        axis = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", node.kwargs.get("axis", 0))
        if not isinstance(tensors, tuple | list) or not isinstance(axis, int):
            raise Opaque
        found = [self.values.get(tensor) for tensor in tensors if isinstance(tensor, fx.Node)]
        arrays = [array for array in found if isinstance(array, np.ndarray)]
        if not arrays or len(arrays) < len(tensors) or axis % (arrays[0].ndim + 1) != 1:
            raise Opaque
        channels = np.concatenate([per_channel(array) for array in arrays])
        return spread(channels, (len(channels), *arrays[0].shape[1:]))

    def _item(self, node: fx.Node, shape: tuple[int, ...]) -> Ids:
        source, index = node.args
        value = self.values.get(source) if isinstance(source, fx.Node) else None
        if isinstance(value, tuple) and isinstance(index, int):
            part: Ids = value[index]
            return part
        if not isinstance(value, np.ndarray) or not isinstance(index, tuple) or not index or index[0] != slice(None):
            raise Opaque
        if not all(isinstance(one, slice) and without_nodes(one) for one in index):
            raise Opaque
        found: Ids = value[tuple(index[1:])]
        return found

    def _chunk(self, node: fx.Node, ids: Any) -> tuple[Ids, ...] | None:
        if not isinstance(ids, np.ndarray):
            return None
        count = node.args[1] if len(node.args) > 1 else node.kwargs.get("chunks")
        axis = node.args[2] if len(node.args) > 2 else node.kwargs.get("dim", 0)
        if not isinstance(count, int) or axis not in (1, -ids.ndim) or ids.shape[0] % count:
            return None
        parts = tuple(np.split(ids, count))
        for part in parts[1:]:
            self.units.join(thin(parts[0]), thin(part))
        return parts
