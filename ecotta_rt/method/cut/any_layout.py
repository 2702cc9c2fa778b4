"""Networks that take frames in whatever order their numbers lie.

`x.view(x.size(0), -1)`, the usual end of a forward, fails on channels-last tensors, which ours are since they are
faster. In a trace it becomes `reshape` (`tracing.trace`); here it does where such a network is called as it is.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ecotta_rt.method.cut.tracing import RESHAPES, uses_views

__all__ = ["in_any_layout"]

_RESHAPES = {getattr(Tensor, view): getattr(Tensor, reshape) for view, reshape in RESHAPES.items()}


def in_any_layout(network: nn.Module) -> nn.Module:
    """The network itself, of a class of its own where its forward uses `view`: the same, with `reshape` in its place.

    Args:
        network: Frames float32 `[N, C, H, W]` to logits.
    """
    kind = type(network)
    if not issubclass(kind, _AnyLayout) and uses_views(network):
        network.__class__ = type(kind.__name__, (_AnyLayout, kind), {"__module__": kind.__module__})
    return network


class _AnyLayout(nn.Module):
    """Changes the call and not `forward`, which a trace reads."""

    def __call__(self, *args: Any, **options: Any) -> Any:
        with _Reshaping():
            return super().__call__(*args, **options)


class _Reshaping(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in _RESHAPES and not any(isinstance(value, torch.dtype) for value in (*args, *kwargs.values())):
            func = _RESHAPES[func]
        return func(*args, **kwargs)
