"""Whether tensors lie in memory channel by channel or pixel by pixel, chosen by name."""

from typing import TypeVar

import torch
from torch import nn

__all__ = ["MEMORY_FORMATS", "to_memory_format"]

NetworkT = TypeVar("NetworkT", bound=nn.Module)

MEMORY_FORMATS = {"channels_last": torch.channels_last, "contiguous": torch.contiguous_format}


def to_memory_format(network: NetworkT, name: str) -> NetworkT:
    """Lay the network's weights out in that format, in place; the values stay."""
    # torch takes this keyword and does not declare it.
    return network.to(memory_format=MEMORY_FORMATS[name])  # type: ignore[call-overload, no-any-return]
