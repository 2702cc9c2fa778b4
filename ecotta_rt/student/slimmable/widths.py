"""Widths: how many channels of each group a ratio means, what they cost, and how some are drawn.

Source:
    Yu and Huang 2019, Universally Slimmable Networks, arXiv 1903.05134, section 3.2: the largest, the smallest, and
    random ones in between; channels in multiples of 8, bumped up where rounding took more than a tenth.
"""

import math
from collections.abc import Mapping

import torch
from torch import nn

from ecotta_rt.errors import UsageError
from ecotta_rt.method.cut.tracing import shape_of
from ecotta_rt.method.width.groups import ChannelGroups, Widths

__all__ = ["at_ratio", "operations", "random_widths", "ratio_for", "rounded"]

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
    kept, total = groups.kept(widths), 0
    for node in groups.graph.nodes:
        slots = groups.followed.slots.get(str(node.target)) if node.op == "call_module" else None
        module = groups.network.get_submodule(str(node.target)) if slots is not None else None
        if slots is None or slots.into is None or not isinstance(module, nn.modules.conv._ConvNd | nn.Linear):
            continue
        out, into = len(groups.places(slots.out, kept)), len(groups.places(slots.into, kept))
        shape = shape_of(node) or ()
        if isinstance(module, nn.Linear):
            total += math.prod(shape[:-1]) * out * into
            continue
        spread = shape_of(node.all_input_nodes[0]) if isinstance(module, nn.modules.conv._ConvTransposeNd) else shape
        a_group = 1 if module.groups == module.in_channels > 1 else into // module.groups
        total += math.prod((spread or ())[1:]) * math.prod(module.kernel_size) * out * a_group
    return total


def ratio_for(groups: ChannelGroups, share: float) -> float:
    """The ratio for all groups whose operations are nearest to `share` of those at full width.

    Operations grow with the square of the width: 1/64 of them is about an eighth of the channels.
    """
    whole = operations(groups, groups.whole())
    candidates = [step / 128 for step in range(1, 129)]
    return min(candidates, key=lambda ratio: abs(math.log(operations(groups, at_ratio(groups, ratio)) / whole / share)))


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
