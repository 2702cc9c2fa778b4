"""Tell a traced graph *when* to compute something again.

Eager code runs in the order it is written in. A graph does not: what depends on nothing but the forward pass may be
computed at once, and two nodes that compute the same are merged, so that a recomputation is undone before it has saved
a byte. `hold_back` makes the second computation depend on the gradient that it is for.
"""

import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import get_proxy_mode

__all__ = ["hold_back"]


def hold_back(x: Tensor, gradient: Tensor) -> Tensor:
    """`x` itself; in a trace, `x` but not before `gradient` is there."""
    return x if get_proxy_mode() is None else _hold_back(x, gradient)


@torch.library.custom_op("ecotta::hold_back", mutates_args=())
def _hold_back(x: Tensor, gradient: Tensor) -> Tensor:
    return x.clone()


@_hold_back.register_fake
def _(x: Tensor, gradient: Tensor) -> Tensor:
    return torch.empty_like(x)
