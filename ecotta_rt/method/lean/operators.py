"""Operators of the frozen branch that keep for their backward only what it really needs.

Plain autograd does not know that a weight is frozen: its convolution keeps its input, its ReLU its output, its
train-mode batch norm its input. Here

    operator                        plain autograd keeps      kept here
    frozen convolution              its input                 nothing (its weight is a constant anyway)
    frozen ReLU, ReLU6              its output                one bit an element
    frozen norm, constant           its input                 one float a channel
    frozen norm, batch statistics   its input                 its input; where `recompute` runs the segment, only then

Every gradient equals plain autograd's. A norm's statistics are *constant* when they come from the source data or from
the stream so far. To treat the statistics of the current batch as constants is an approximation, and has a name:
`frozen_gradient="constant"`.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from ecotta_rt.method.lean.bits import is_channels_last, pack_between, unpack
from ecotta_rt.method.lean.hold import hold_back
from ecotta_rt.method.statistics import Statistics

__all__ = ["frozen_convolution", "frozen_norm", "frozen_relu", "lean_l1", "recompute"]

_UNBOUNDED = float("inf")


def frozen_convolution(x: Tensor, conv: nn.Conv2d) -> Tensor:
    """`conv(x)` whose backward gives the input's gradient only and keeps nothing of `x`.

    Args:
        x: float32 `[N, C, H, W]`.
        conv: Its weight must not require a gradient.
    """
    # Padding by reflection or "same" is rare: plain autograd is right there, only not lean.
    plain = conv.padding_mode != "zeros" or isinstance(conv.padding, str)
    if plain or not _differentiates(x):
        out: Tensor = conv(x)
        return out
    return _apply(_FrozenConvolution, x, conv)


def frozen_relu(x: Tensor, ceiling: float = _UNBOUNDED) -> Tensor:
    """min(max(x, 0), ceiling), keeping one bit an element; `ceiling=6` is ReLU6."""
    return _apply(_FrozenRelu, x, ceiling) if _differentiates(x) else x.clamp(0.0, ceiling)


def frozen_norm(
    x: Tensor, norm: nn.BatchNorm2d, name: str, statistics: Statistics, *, exact: bool, relu: bool
) -> Tensor:
    """Batch norm with frozen affine weights, then ReLU if asked.

    Args:
        x: float32 `[N, C, H, W]`.
        norm: Gives the affine weights and eps; its own running statistics are not read.
        name: Its name among the statistics.
        statistics: Normalises.
        exact: Follow the gradient through the statistics of the batch, which means keeping `x`; else they are constant.
        relu: Fuse the ReLU that follows, so that one bit an element is kept for both.
    """
    if not _differentiates(x):
        y = statistics.normalise(name, x, norm.weight, norm.bias, norm.eps)[0]
        return y.relu_() if relu else y
    kind = _ExactNorm if exact and statistics.through_batch(name) else _ConstantNorm
    return _apply(kind, x, norm, name, statistics, relu)


def recompute(run: Callable[..., Tensor], x: Tensor, learned: Sequence[Tensor] = ()) -> Tensor:
    """`run(x, *learned)`, keeping only these: the backward runs it again, with gradients this time.

    torch.utils.checkpoint does the same for any function; this one skips what a deterministic segment does not need
    (random states, tensors found in closures), and packs no bits in the first pass. What learns inside must be in
    `learned`: a gradient reaches nothing else.
    """
    return _apply(_Recomputed, run, x, *learned) if any(map(_differentiates, (x, *learned))) else run(x, *learned)


def lean_l1(adapted: Tensor, frozen: Tensor) -> Tensor:
    """`self_distilled_l1`, keeping two bits an element."""
    return _apply(_MeanAbsoluteDifference, adapted, frozen.detach())


def _apply(function: type[torch.autograd.Function], *args: Any) -> Tensor:
    result: Tensor = function.apply(*args)  # type: ignore[no-untyped-call]
    return result


def _differentiates(x: Tensor) -> bool:
    return torch.is_grad_enabled() and x.requires_grad


class _FrozenConvolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, conv: nn.Conv2d) -> Tensor:
        ctx.conv, ctx.input_size = conv, x.shape[2:]
        return F.conv2d(x, conv.weight, conv.bias, conv.stride, conv.padding, conv.dilation, conv.groups)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        conv = ctx.conv
        # What a strided convolution left over at the far edge: rows that its last window did not reach.
        rest = [
            size + 2 * padding - dilation * (kernel - 1) - 1 - (out - 1) * stride
            for size, padding, dilation, kernel, out, stride in zip(
                ctx.input_size,
                conv.padding,
                conv.dilation,
                conv.kernel_size,
                gradient.shape[2:],
                conv.stride,
                strict=True,
            )
        ]
        back = F.conv_transpose2d(
            gradient, conv.weight, None, conv.stride, conv.padding, rest, conv.groups, conv.dilation
        )
        return back, None


class _FrozenRelu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, ceiling: float) -> Tensor:
        y = x.clamp(0.0, ceiling)
        _keep_mask(ctx, y, ceiling)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return _masked(ctx, gradient), None


class _ConstantNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, norm: nn.BatchNorm2d, name: str, statistics: Statistics, relu: bool) -> Tensor:
        y, _, scale = statistics.normalise(name, x, norm.weight, norm.bias, norm.eps)
        if norm.weight is not None:
            scale = scale * norm.weight
        return _relu_and_keep(ctx, y, relu, scale)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        scale = ctx.saved_tensors[-1].view(1, -1, 1, 1)
        back = _masked(ctx, gradient).mul_(scale) if ctx.relu else gradient * scale
        return back, None, None, None, None


class _ExactNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, norm: nn.BatchNorm2d, name: str, statistics: Statistics, relu: bool) -> Tensor:
        y, mean, inverse = statistics.normalise(name, x, norm.weight, norm.bias, norm.eps)
        ctx.norm = norm
        return _relu_and_keep(ctx, y, relu, x, mean, inverse)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        norm = ctx.norm
        x, mean, inverse = ctx.saved_tensors[-3:]
        gradient = _masked(ctx, gradient) if ctx.relu else gradient
        wanted = [True, False, False]
        back: Tensor = torch.ops.aten.native_batch_norm_backward(
            gradient, x, norm.weight, None, None, mean, inverse, True, norm.eps, wanted
        )[0]
        return back, None, None, None, None


class _Recomputed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, run: Callable[..., Tensor], x: Tensor, *learned: Tensor) -> Tensor:
        ctx.run = run
        ctx.save_for_backward(x, *learned)
        return run(x, *learned)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, *learned = ctx.saved_tensors
        wanted = ctx.needs_input_grad[1:]
        with torch.enable_grad():
            inputs = [hold_back(x.detach(), gradient), *(value.detach() for value in learned)]
            leaves = [value.requires_grad_() for value, wants in zip(inputs, wanted, strict=True) if wants]
            found = iter(torch.autograd.grad(ctx.run(*inputs), leaves, gradient))
        return None, *(next(found) if wants else None for wants in wanted)


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


def _relu_and_keep(ctx: Any, y: Tensor, relu: bool, *kept: Tensor) -> Tensor:
    ctx.relu = relu
    if not relu:
        ctx.save_for_backward(*kept)
        return y
    y = y.relu_()
    _keep_mask(ctx, y, _UNBOUNDED, *kept)
    return y


def _keep_mask(ctx: Any, y: Tensor, ceiling: float, *others: Tensor) -> None:
    """Remember where the output `y` lay strictly between 0 and `ceiling`: there the gradient passes."""
    ctx.mask_shape, ctx.mask_channels_last = y.shape, is_channels_last(y)
    ctx.save_for_backward(pack_between(y, 0.0, ceiling), *others)


def _masked(ctx: Any, gradient: Tensor) -> Tensor:
    """`gradient` where the kept mask is set, zero elsewhere; a tensor of its own."""
    return unpack(ctx.saved_tensors[0], ctx.mask_shape, ctx.mask_channels_last, gradient.dtype).mul_(gradient)
