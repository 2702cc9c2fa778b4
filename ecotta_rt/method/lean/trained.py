"""Operators that learn, keeping little for their backward: a norm, and convolution, norm and ReLU in one.

The trained norm keeps its input. The branch keeps its input and one bit an output element; the convolution's output is
computed a second time instead of kept (7 % of the network's multiplications in EcoTTA's meta groups).
"""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from ecotta_rt.method.lean.bits import is_channels_last, pack_between, unpack
from ecotta_rt.method.lean.hold import hold_back
from ecotta_rt.method.statistics import Statistics

__all__ = ["trained_branch", "trained_norm"]


def trained_norm(name: str, eps: float, x: Tensor, weight: Tensor, bias: Tensor, statistics: Statistics) -> Tensor:
    """Batch norm `name` of `x`, float32 `[N, C, H, W]`, with scale and shift `[C]` that learn."""
    result: Tensor = _TrainedNorm.apply(x, weight, bias, name, eps, statistics)  # type: ignore[no-untyped-call]
    return result


def trained_branch(
    name: str,
    modules: tuple[nn.Conv2d, nn.BatchNorm2d],
    x: Tensor,
    parameters: tuple[Tensor, Tensor, Tensor],
    statistics: Statistics,
    recompute: bool,
) -> Tensor:
    """ReLU(norm(convolution(x))), all of which learns.

    Args:
        name: The norm's name among the statistics.
        modules: Give stride, padding and eps; their own parameters are not read.
        x: float32 `[N, C, H, W]`.
        parameters: Weight of the convolution, scale and shift of the norm.
        statistics: Gives the norm's moments.
        recompute: Compute the convolution's output again in the backward instead of keeping it.
    """
    rule = _Rule(name, *modules, statistics, recompute)
    result: Tensor = _Branch.apply(x, *parameters, rule)  # type: ignore[no-untyped-call]
    return result


class _Rule(NamedTuple):
    name: str
    conv: nn.Conv2d
    norm: nn.BatchNorm2d
    statistics: Statistics
    recompute: bool

    def convolve(self, x: Tensor, weight: Tensor) -> Tensor:
        return F.conv2d(x, weight, None, self.conv.stride, self.conv.padding)


class _TrainedNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, name: str, eps: float, statistics: Statistics
    ) -> Tensor:
        ctx.eps, ctx.through_batch = eps, statistics.through_batch(name)
        y, mean, inverse = statistics.normalise(name, x, weight, bias, eps)
        ctx.save_for_backward(x, weight, mean, inverse)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, inverse = ctx.saved_tensors
        wanted = [ctx.needs_input_grad[0], True, True]
        back = _norm_backward(gradient, x, weight, mean, inverse, ctx.eps, ctx.through_batch, wanted)
        return *back, None, None, None


class _Branch(torch.autograd.Function):
    """ReLU(BN'(Conv(x))): keeps `x`, one bit an output element, and the convolution's output unless recomputed."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, norm_weight: Tensor, norm_bias: Tensor, rule: _Rule) -> Tensor:
        convolved = rule.convolve(x, weight)
        y, mean, inverse = rule.statistics.normalise(rule.name, convolved, norm_weight, norm_bias, rule.norm.eps)
        y = y.relu_()
        kept = () if rule.recompute else (convolved,)
        ctx.save_for_backward(x, weight, norm_weight, mean, inverse, pack_between(y, 0.0), *kept)
        ctx.rule, ctx.shape, ctx.channels_last = rule, y.shape, is_channels_last(y)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, norm_weight, mean, inverse, bits, *kept = ctx.saved_tensors
        rule, conv = ctx.rule, ctx.rule.conv
        convolved = kept[0] if kept else rule.convolve(hold_back(x, gradient), weight)
        masked = unpack(bits, ctx.shape, ctx.channels_last, gradient.dtype).mul_(gradient)
        through_batch = rule.statistics.through_batch(rule.name)
        inner, grad_norm_weight, grad_norm_bias = _norm_backward(
            masked, convolved, norm_weight, mean, inverse, rule.norm.eps, through_batch, [True, True, True]
        )
        grad_x, grad_weight, _ = torch.ops.aten.convolution_backward(
            inner,
            x,
            weight,
            None,
            conv.stride,
            conv.padding,
            conv.dilation,
            False,
            [0, 0],
            1,
            [ctx.needs_input_grad[0], True, False],
        )
        return grad_x, grad_weight, grad_norm_weight, grad_norm_bias, None


def _norm_backward(
    gradient: Tensor,
    x: Tensor,
    weight: Tensor,
    mean: Tensor,
    inverse: Tensor,
    eps: float,
    through_batch: bool,
    wanted: list[bool],
) -> tuple[Tensor, Tensor, Tensor]:
    # In training mode the kernel reads the saved mean and 1/deviation; otherwise it wants a mean and a variance.
    back: tuple[Tensor, Tensor, Tensor] = torch.ops.aten.native_batch_norm_backward(
        gradient, x, weight, mean, inverse.pow(-2) - eps, mean, inverse, through_batch, eps, wanted
    )
    return back
