"""Find the groups of channels of a network that can be made narrower.

    network, frames  ->  find_groups()  ->  ChannelGroups: name -> size, and what stays whole and why

A group holds the units (see `channel_ids`) that occur in exactly the same weights. One width is chosen for each group:
how many of its first units are kept. So a residual trunk is one group; where a shortcut is padded with zeros (option A
of CIFAR ResNets) the channels that a deeper stage adds are a group of their own, and the shortcut still meets the
channels that it meets at full width.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, fx, nn

from ecotta_rt.errors import NetworkError, UsageError
from ecotta_rt.method.cut.plain_norms import plain_norms
from ecotta_rt.method.cut.tracing import trace
from ecotta_rt.method.cut.unwrapping import settled, unwrapped
from ecotta_rt.method.width.channel_ids import Followed, follow_channels
from ecotta_rt.method.width.units import Ids

__all__ = ["ChannelGroups", "Group", "Widths", "find_groups"]

Widths = Mapping[str, int]
"""How many units of each group are kept: 1 to its size. A group that is left out stays whole."""


@dataclass(frozen=True)
class Group:
    """Channels that occur in the same weights.

    Attributes:
        name: The first module that makes them: `layer1.0.conv1`; with #2 where another group has that name.
        size: How many units there are to keep.
        units: Their names, in order.
    """

    name: str
    size: int
    units: tuple[int, ...] = field(repr=False)


@dataclass(frozen=True, eq=False)
class ChannelGroups:
    """The groups of a network, and where its channels are.

    Attributes:
        network: The network, its norms plain; shared.
        graph: Its trace, in evaluation mode.
        groups: By name, in the order in which the network makes them.
        notes: A line for each module whose channels all stay, with the node that is the reason.
    """

    network: nn.Module
    graph: fx.Graph
    groups: Mapping[str, Group]
    notes: tuple[str, ...]
    followed: Followed = field(repr=False)
    names: Ids = field(repr=False)  # of the unit, by channel number
    rewritten: bool = False  # whether the graph calls norms that the network's own forward does not

    def kept(self, widths: Widths) -> NDArray[np.bool_]:
        """By unit, whether it is there at these widths.

        Raises:
            UsageError: A group that is not there, or a width outside 1 to its size.
        """
        unknown = [name for name in widths if name not in self.groups]
        if unknown:
            raise UsageError(f"{unknown[0]!r} is no channel group of this network; it has {_listed(list(self.groups))}")
        mask = np.ones(len(self.names), np.bool_)
        for name, width in widths.items():
            group = self.groups[name]
            if not 1 <= width <= group.size:
                raise UsageError(f"width {width!r} of {name}: a whole number from 1 to {group.size} channels is left")
            mask[list(group.units[width:])] = False
        return mask

    def places(self, ids: Ids, kept: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Which places of an axis are kept."""
        return np.flatnonzero(kept[self.names[ids]])

    def whole(self) -> dict[str, int]:
        """The widths at which nothing is removed."""
        return {name: group.size for name, group in self.groups.items()}


def find_groups(network: nn.Module, example_frames: Tensor) -> ChannelGroups:
    """The channel groups of `network`.

    Args:
        network: Frames to logits; anything `ecotta prepare` can trace. Its weights become plain ones, and norms that
            are no `nn.BatchNorm2d` get one as a child, as for `partition`. Its mode stays.
        example_frames: float32 `[N, C, H, W]`; its size counts.

    Raises:
        NetworkError: It cannot be traced, or none of its channels can be removed; the message names the node.
    """
    network = settled(unwrapped(network))
    modes = {module: module.training for module in network.modules()}
    network.eval()  # so that a functional dropout is traced as off, and no two traces differ
    try:
        graph = trace(network, example_frames)
        called = _called(graph)
        plain_norms(network, graph, example_frames)
    finally:
        for module, mode in modes.items():
            module.training = mode
    followed = follow_channels(graph, network)
    groups, notes = _grouped(followed), _notes(followed)
    if not groups:
        why = notes[0] if notes else "no convolution or linear layer feeds another one"
        raise NetworkError(f"{type(network).__name__} cannot be made narrower: {why}")
    return ChannelGroups(network, graph, groups, notes, followed, followed.units.table(), _called(graph) != called)


def _called(graph: fx.Graph) -> set[str]:
    return {str(node.target) for node in graph.nodes if node.op == "call_module"}


def _grouped(followed: Followed) -> dict[str, Group]:
    units, where = followed.units, dict[int, list[int]]()
    makers: dict[int, str] = {}
    for index, (path, slots) in enumerate(followed.slots.items()):
        for side, ids in enumerate((slots.out, slots.into)):
            for unit in () if ids is None else dict.fromkeys(units.names(ids).tolist()):
                where.setdefault(unit, []).append(2 * index + side)
                if side == 0:
                    makers.setdefault(unit, path)
    where.pop(0, None)
    classes: dict[tuple[int, ...], list[int]] = {}
    for unit, slots_of in where.items():
        if unit in makers:
            classes.setdefault(tuple(slots_of), []).append(unit)
    groups: dict[str, Group] = {}
    for members in sorted(classes.values(), key=min):
        maker = makers[min(members)]
        name, number = maker, 1
        while name in groups:
            number += 1
            name = f"{maker}#{number}"
        groups[name] = Group(name, len(members), tuple(sorted(members)))
    return groups


def _notes(followed: Followed) -> tuple[str, ...]:
    """Modules whose outputs all stay though they are not the logits, by the first reason."""
    units, reasons = followed.units, followed.units.reasons
    lines = []
    for path, slots in followed.slots.items():
        named = units.names(slots.out)
        own = [reasons[number] for number in np.unique(slots.out).tolist() if number in reasons]
        if slots.into is not None and own and not named.any():
            lines.append(f"the channels of {path} stay whole because of {own[0]}")
    return tuple(lines)


def _listed(names: list[str]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
