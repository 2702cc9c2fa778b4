"""One bit an element: the only thing a frozen ReLU has to remember.

A ReLU's backward needs to know where its output was positive. Plain autograd keeps the whole output for that, 32 times
as much. Comparing and packing go through numpy on the tensor's own memory (no copy): torch has no bit-packing operator,
and its float comparison is eight times slower on a CPU.

Both are operators of torch's own registry, so that a traced step shows one node for each and the exporter may choose
another form for the mask.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

__all__ = ["is_channels_last", "pack_between", "unpack"]

_UNBOUNDED = float("inf")


def pack_between(x: Tensor, low: float, high: float = _UNBOUNDED) -> Tensor:
    """Pack `low < x < high` into uint8, eight elements a byte, in memory order.

    Args:
        x: float, dense; a 4-d one may be contiguous or channels-last.
        low: Exclusive bound.
        high: Exclusive bound.

    Returns:
        uint8 `[ceil(elements / 8)]`. Unpacking needs the same shape and layout.
    """
    packed: Tensor = _pack_between(x.detach(), low, high)
    return packed


def unpack(bits: Tensor, shape: torch.Size, channels_last: bool, dtype: torch.dtype) -> Tensor:
    """Undo `pack_between`: a mask of zeros and ones of `shape` and `dtype`, in the layout that was packed."""
    mask: Tensor = _unpack(bits, shape, channels_last, dtype)
    return mask


def is_channels_last(x: Tensor) -> bool:
    """Whether `x` lies in memory as N, H, W, C. A tensor dense both ways counts as contiguous."""
    return x.dim() == 4 and not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last)


@torch.library.custom_op("ecotta::pack_between", mutates_args=())
def _pack_between(x: Tensor, low: float, high: float) -> Tensor:
    values = _in_memory_order(x).numpy().reshape(-1)
    mask = values > low
    if high != _UNBOUNDED:
        mask &= values < high
    return torch.from_numpy(np.packbits(mask))


@_pack_between.register_fake
def _(x: Tensor, low: float, high: float) -> Tensor:
    return x.new_empty([-(-x.numel() // 8)], dtype=torch.uint8)


@torch.library.custom_op("ecotta::unpack", mutates_args=())
def _unpack(bits: Tensor, shape: Sequence[int], channels_last: bool, dtype: torch.dtype) -> Tensor:
    # Through uint8: torch converts that to float at memory speed, bool eight times slower.
    flat = torch.from_numpy(np.unpackbits(bits.numpy(), count=torch.Size(shape).numel())).to(dtype)
    if channels_last:
        batch, channels, height, width = shape
        return flat.view(batch, height, width, channels).permute(0, 3, 1, 2)
    return flat.view(shape)


@_unpack.register_fake
def _(bits: Tensor, shape: Sequence[int], channels_last: bool, dtype: torch.dtype) -> Tensor:
    layout = torch.channels_last if channels_last else torch.contiguous_format
    return torch.empty(shape, dtype=dtype, memory_format=layout)


def _in_memory_order(x: Tensor) -> Tensor:
    return x.permute(0, 2, 3, 1) if is_channels_last(x) else x.contiguous()
