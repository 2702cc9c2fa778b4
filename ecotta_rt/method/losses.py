"""The two losses of the adaptation: entropy of confident frames, and distance to the frozen network's own features.

Source:
    Song et al. 2023, EcoTTA, arXiv 2303.01904, section 3.2 (entropy minimisation and self-distilled regularisation).
    The gate is that of Niu et al. 2022, EATA, arXiv 2204.02610, section 3.1, without its redundancy filter.
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ecotta_rt.method.lean.bits import is_channels_last, pack_between, unpack

__all__ = ["entropy_nats", "entropy_threshold_nats", "self_distilled_l1"]


def entropy_nats(logits: Tensor) -> Tensor:
    """Shannon entropy of softmax(logits): float32 `[N, C]` to `[N]`, in nats, in [0, ln C]."""
    log_probabilities = torch.log_softmax(logits, dim=1)
    return -(log_probabilities.exp() * log_probabilities).sum(dim=1)


def entropy_threshold_nats(classes: int, margin: float) -> float:
    """H0 = margin * ln C: a frame learns only when its entropy lies below."""
    return margin * math.log(classes)


def self_distilled_l1(adapted: Tensor, frozen: Tensor) -> Tensor:
    """Mean absolute difference over all elements; the gradient goes to `adapted` only. Keeps two bits an element.

    Args:
        adapted: float32 `[N, C, H, W]`, a group's output.
        frozen: Same shape, the frozen part's own output.
    """
    result: Tensor = _MeanAbsoluteDifference.apply(adapted, frozen.detach())  # type: ignore[no-untyped-call]
    return result


class _MeanAbsoluteDifference(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, adapted: Tensor, frozen: Tensor) -> Tensor:
        difference = adapted - frozen
        # Two masks, since a difference can be zero: the sign has three values.
        ctx.save_for_backward(pack_between(difference, 0.0), pack_between(difference, -math.inf, 0.0))
        ctx.shape, ctx.channels_last = difference.shape, is_channels_last(difference)
        return difference.abs_().mean()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        above, below = (unpack(bits, ctx.shape, ctx.channels_last, gradient.dtype) for bits in ctx.saved_tensors)
        return above.sub_(below).mul_(gradient / ctx.shape.numel()), None
