"""The meta group: the only thing that learns on the device.

    x~_k = BN_k(f_k(x~_{k-1})) + ReLU(BN'_k(Conv_k(x~_{k-1})))

`MetaGroup` is the plain torch module; warm-up trains it with ordinary autograd. `lean_meta_group` computes the same
from explicit parameters and keeps less for its backward: the part's output and the group's input, which are kept
anyway. The output of `Conv_k` is computed a second time instead (7 % of the network's multiplications).

Source:
    Song et al. 2023, EcoTTA, arXiv 2303.01904, section 3.1 and figure 3.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from ecotta_rt.method.lean.bits import is_channels_last, pack_between, unpack
from ecotta_rt.method.lean.hold import hold_back
from ecotta_rt.method.statistics import Statistics

__all__ = ["PARAMETERS", "MetaGroup", "lean_meta_group"]

PARAMETERS = ("norm.weight", "norm.bias", "conv.weight", "conv_norm.weight", "conv_norm.bias")
"""What one group learns, by name inside the group."""


class MetaGroup(nn.Module):
    """One meta group.

    Args:
        in_channels: Channels of the part's input.
        out_channels: Channels of the part's output.
        stride: The part's spatial ratio.
        kernel: Side of the convolution's window, odd.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, kernel: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(out_channels)
        self.conv = nn.Conv2d(in_channels, out_channels, kernel, stride, padding=kernel // 2, bias=False)
        self.conv_norm = nn.BatchNorm2d(out_channels)

    def forward(self, part_input: Tensor, part_output: Tensor) -> Tensor:
        """Both float32 `[N, C, H, W]`; returns the next part's input, of `part_output`'s shape."""
        normed: Tensor = self.norm(part_output)
        return normed + F.relu(self.conv_norm(self.conv(part_input)))


def lean_meta_group(
    group: MetaGroup,
    parameters: Mapping[str, Tensor],
    name: str,
    part_input: Tensor,
    part_output: Tensor,
    statistics: Statistics,
    recompute: bool,
) -> Tensor:
    """What `group` computes, from explicit `parameters` (keys `f"{name}.{p}" for p in PARAMETERS`).

    Args:
        group: Gives strides and eps; its own parameters are not read.
        parameters: The values to use, requiring gradients or not.
        name: The group's name, `groups.0` and so on; its norms are `NAME.norm` and `NAME.conv_norm`.
        part_input: float32 `[N, C, H, W]`.
        part_output: float32 `[N, C', H', W']`.
        statistics: Gives each norm's moments.
        recompute: Compute the convolution's output again in the backward instead of keeping it.
    """
    norm_weight, norm_bias, weight, branch_weight, branch_bias = (parameters[f"{name}.{p}"] for p in PARAMETERS)
    rule = _Rule(group, name, statistics, recompute)
    normed: Tensor = _TrainedNorm.apply(part_output, norm_weight, norm_bias, rule)  # type: ignore[no-untyped-call]
    branch: Tensor = _Branch.apply(part_input, weight, branch_weight, branch_bias, rule)  # type: ignore[no-untyped-call]
    return normed + branch


class _Rule(NamedTuple):
    group: MetaGroup
    name: str
    statistics: Statistics
    recompute: bool

    def convolve(self, x: Tensor, weight: Tensor) -> Tensor:
        conv = self.group.conv
        return F.conv2d(x, weight, None, conv.stride, conv.padding)


class _TrainedNorm(torch.autograd.Function):
    """Batch norm whose affine weights learn; keeps its input."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, rule: _Rule) -> Tensor:
        ctx.eps, ctx.through_batch = rule.group.norm.eps, rule.statistics.through_batch(f"{rule.name}.norm")
        y, mean, inverse = rule.statistics.normalise(f"{rule.name}.norm", x, weight, bias, ctx.eps)
        ctx.save_for_backward(x, weight, mean, inverse)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, inverse = ctx.saved_tensors
        wanted = [ctx.needs_input_grad[0], True, True]
        return *_norm_backward(gradient, x, weight, mean, inverse, ctx.eps, ctx.through_batch, wanted), None


class _Branch(torch.autograd.Function):
    """ReLU(BN'(Conv(x))): keeps `x`, one bit an output element, and the convolution's output unless recomputed."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, norm_weight: Tensor, norm_bias: Tensor, rule: _Rule) -> Tensor:
        convolved = rule.convolve(x, weight)
        name, eps = f"{rule.name}.conv_norm", rule.group.conv_norm.eps
        y, mean, inverse = rule.statistics.normalise(name, convolved, norm_weight, norm_bias, eps)
        y = y.relu_()
        kept = () if rule.recompute else (convolved,)
        ctx.save_for_backward(x, weight, norm_weight, mean, inverse, pack_between(y, 0.0), *kept)
        ctx.rule, ctx.shape, ctx.channels_last = rule, y.shape, is_channels_last(y)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, norm_weight, mean, inverse, bits, *kept = ctx.saved_tensors
        rule, conv = ctx.rule, ctx.rule.group.conv
        convolved = kept[0] if kept else rule.convolve(hold_back(x, gradient), weight)
        masked = unpack(bits, ctx.shape, ctx.channels_last, gradient.dtype).mul_(gradient)
        eps, through_batch = rule.group.conv_norm.eps, rule.statistics.through_batch(f"{rule.name}.conv_norm")
        inner, grad_norm_weight, grad_norm_bias = _norm_backward(
            masked, convolved, norm_weight, mean, inverse, eps, through_batch, [True, True, True]
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
