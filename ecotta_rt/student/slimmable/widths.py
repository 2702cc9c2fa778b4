"""Widths: how many channels of each group a ratio means, what they cost, and how some are drawn.

Source:
    Yu and Huang 2019, Universally Slimmable Networks, arXiv 1903.05134, section 3.2: the largest, the smallest, and
    random ones in between; channels in multiples of 8, bumped up where rounding took more than a tenth.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import nn

from ecotta_rt.errors import UsageError
from ecotta_rt.method.cut.tracing import shape_of
from ecotta_rt.method.width.groups import ChannelGroups, Widths
from ecotta_rt.method.width.units import Ids

__all__ = ["at_ratio", "operations", "outputs", "random_widths", "ratio_for", "rounded", "weights"]

_DIVISOR, _FEWEST_STEPS = 8, 16
"""Channels in multiples of 8, but at least 16 widths a group: of 32 channels multiples of 2, of 16 every number."""


def rounded(size: int, ratio: float) -> int:
    """Channels of a group of `size` at `ratio` of its width; never 0.

    >>> [rounded(128, 0.3), rounded(32, 0.3), rounded(16, 0.01)]
    [40, 10, 1]

    Raises:
        UsageError: A ratio outside (0, 1].
    """
    if not 0 < ratio <= 1:
        raise UsageError(f"width {ratio:g}: a share of the channels, above 0 and at most 1")
    if ratio == 1:
        return size  # also where that is no multiple
    divisor = 1
    while divisor < _DIVISOR and size // (2 * divisor) >= _FEWEST_STEPS:
        divisor *= 2
    wanted = size * ratio
    near = max(divisor, int(wanted / divisor + 0.5) * divisor)
    if near < 0.9 * wanted:
        near += divisor
    return min(size, near)


def at_ratio(groups: ChannelGroups, ratio: float | Mapping[str, float]) -> dict[str, int]:
    """The same ratio for all groups, or one for each; rounded."""
    return {
        name: rounded(group.size, ratio if isinstance(ratio, int | float) else ratio[name])
        for name, group in groups.groups.items()
    }


def operations(groups: ChannelGroups, widths: Widths) -> int:
    """Multiply-accumulates a frame at these widths, as `method.cut.cost` counts them."""
    return sum(out * into * window * places for out, into, window, places in _layers(groups, widths))


def weights(groups: ChannelGroups, widths: Widths) -> int:
    """Numbers in the weights of convolutions and linear layers."""
    return sum(out * into * window for out, into, window, _ in _layers(groups, widths))


def outputs(groups: ChannelGroups, widths: Widths) -> int:
    """Numbers that convolutions and linear layers make, a frame."""
    return sum(out * places for out, _, _, places in _layers(groups, widths))


def ratio_for(groups: ChannelGroups, share: float) -> float:
    """The ratio for all groups whose operations are nearest to `share` of those at full width.

    Operations grow with the square of the width: 1/64 of them is about an eighth of the channels.
    """
    costs = _costs_of_ratios(groups)
    return min(costs, key=lambda ratio: abs(math.log(costs[ratio] / costs[1.0] / share)))


@lru_cache(maxsize=8)
def _costs_of_ratios(groups: ChannelGroups) -> dict[float, int]:
    return {step / 128: operations(groups, at_ratio(groups, step / 128)) for step in range(1, 129)}


def random_widths(groups: ChannelGroups, least: float, generator: torch.Generator, *, each: bool) -> dict[str, int]:
    """Widths between `least` and 1, uniform.

    Args:
        groups: Of the network.
        least: Smallest ratio.
        generator: Where they are drawn from.
        each: A ratio for each group; otherwise one for all.
    """
    draws = torch.rand(len(groups.groups) if each else 1, generator=generator).tolist()
    ratios = [least + (1 - least) * draw for draw in draws]
    if not each:
        return at_ratio(groups, ratios[0])
    return at_ratio(groups, dict(zip(groups.groups, ratios, strict=True)))


@dataclass(frozen=True)
class _Layer:
    """A convolution or linear layer: units of its outputs and inputs, and what each pair of them costs."""

    out: Ids
    into: Ids
    groups: int
    depthwise: bool
    window: int
    places: int


@lru_cache(maxsize=8)
def _layers_of(groups: ChannelGroups) -> tuple[_Layer, ...]:
    found = []
    for node in groups.graph.nodes:
        slots = groups.followed.slots.get(str(node.target)) if node.op == "call_module" else None
        module = groups.network.get_submodule(str(node.target)) if slots is not None else None
        if slots is None or slots.into is None:
            continue
        out, into, shape = groups.names[slots.out], groups.names[slots.into], shape_of(node) or ()
        if isinstance(module, nn.modules.conv._ConvNd):
            transposed = isinstance(module, nn.modules.conv._ConvTransposeNd)
            spread = shape_of(node.all_input_nodes[0]) if transposed else shape
            window, places = math.prod(module.kernel_size), math.prod((spread or ())[1:])
            depthwise = module.groups == module.in_channels > 1
            found.append(_Layer(out, into, module.groups, depthwise, window, places))
        elif isinstance(module, nn.Linear):
            found.append(_Layer(out, into, 1, False, 1, math.prod(shape[:-1])))
    return tuple(found)


def _layers(groups: ChannelGroups, widths: Widths) -> Iterator[tuple[int, int, int, int]]:
    """Of each layer: outputs, inputs of one output, size of its window, and places it is at."""
    kept = groups.kept(widths)
    for layer in _layers_of(groups):
        out, into = int(kept[layer.out].sum()), int(kept[layer.into].sum())
        yield out, 1 if layer.depthwise else into // layer.groups, layer.window, layer.places
