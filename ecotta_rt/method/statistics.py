"""Where a norm's mean and variance come from: the three normalisation modes as one small object.

    batch     the current batch (the paper's protocol)
    running   source statistics moved by the stream; constants in the backward
    source    source statistics, never moved

A norm may have a momentum of its own. 0 holds its statistics still in every mode: neither the batch nor the stream
touches them. Any other takes the place of the network's in `running` mode.

A `Statistics` lives for one step. It remembers the moments each norm used, so that a segment that is run again in the
backward is normalised by the very same numbers.
"""

from collections.abc import Mapping
from types import MappingProxyType

import torch
import torch.nn.functional as F
from torch import Tensor

from ecotta_rt.options import TRACKED, Normalisation

__all__ = ["Moments", "Statistics", "batch_moments", "move", "tracked_moments"]

Moments = tuple[Tensor, Tensor]
"""Per-channel mean and biased variance, each float32 `[C]`."""


class Statistics:
    """Normalises for every norm of the network during one step.

    Args:
        mode: Which rule of the three.
        known: Moments by norm name; what `running` starts from and `source` uses. `batch` does not read it.
        momentum: u of the `running` rule, in [0, 1]; 0 holds the statistics of all norms still.
        momenta: By norm name, the momentum of norms that have one of their own.
    """

    def __init__(
        self,
        mode: Normalisation,
        known: Mapping[str, Moments],
        momentum: float,
        momenta: Mapping[str, float] = MappingProxyType({}),
    ) -> None:
        self._mode, self._known, self._momentum, self._momenta = mode, known, momentum, momenta
        self.used: dict[str, Moments] = {}

    def through_batch(self, name: str) -> bool:
        """Whether this norm's moments depend on the frames in a way that an exact gradient must follow."""
        return self._mode == "batch" and self._momenta.get(name) != 0.0

    def moments(self, name: str, x: Tensor) -> Moments:
        """Those that norm `name` uses for `x`, float32 `[N, C, H, W]`; through those of the batch a gradient flows."""
        if self.through_batch(name):
            mean, variance = x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0)
            self.used.setdefault(name, (mean.detach(), variance.detach()))
            return mean, variance
        if name not in self.used:
            self.used[name] = self._tracked(name, x)
        return self.used[name]

    def normalise(
        self, name: str, x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Batch norm `name`, without a gradient.

        Args:
            name: The norm's name among the statistics.
            x: float32 `[N, C, H, W]`.
            weight: float32 `[C]`, or None.
            bias: float32 `[C]`, or None.
            eps: Added to the variance.

        Returns:
            The result, `[N, C, H, W]`; the mean used, `[C]`; and (variance + eps)^-1/2, `[C]`.
        """
        if self.through_batch(name):
            # The kernel that plain autograd uses, so that both round alike: a last bit decides ReLUs near zero.
            y, mean, inverse = torch.native_batch_norm(x, weight, bias, None, None, True, 0.0, eps)
            self.used.setdefault(name, (mean, inverse.pow(-2) - eps))
            return y, mean, inverse
        mean, variance = self.moments(name, x)
        return F.batch_norm(x, mean, variance, weight, bias, False, 0.0, eps), mean, torch.rsqrt(variance + eps)

    def _tracked(self, name: str, x: Tensor) -> Moments:
        momentum = self._momenta.get(name, self._momentum)
        if self._mode != "running" or 0.0 in (momentum, self._momentum):
            return self._known[name]
        moved: Moments = tracked_moments(x.detach(), *self._known[name], momentum)
        return moved

    def after(self) -> dict[str, Moments]:
        """The statistics that the next step starts from."""
        return {**self._known, **self.used} if self._mode in TRACKED else dict(self._known)


@torch.library.custom_op("ecotta::tracked_moments", mutates_args=())
def tracked_moments(x: Tensor, mean: Tensor, variance: Tensor, momentum: float) -> tuple[Tensor, Tensor]:
    """`move` the moments by those of `x`: one operator, so that a trace shows what it is and not how it is done."""
    return move((mean, variance), batch_moments(x), momentum)


@tracked_moments.register_fake
def _(x: Tensor, mean: Tensor, variance: Tensor, momentum: float) -> tuple[Tensor, Tensor]:
    return torch.empty_like(mean), torch.empty_like(variance)


def batch_moments(x: Tensor) -> Moments:
    """Per-channel mean and biased variance of `[N, C, H, W]`, each float32 `[C]`; no gradient flows through them."""
    # The first half of batch norm's own kernel: many times faster on a CPU than `var_mean`.
    mean, variance = torch.ops.aten.batch_norm_update_stats(x.detach(), None, None, 0.0)
    return mean, variance


def move(moments: Moments, seen: Moments, momentum: float) -> Moments:
    """Move tracked moments towards those just seen: an exponential average of the whole distribution.

    With d = b - m:  v <- (1 - u)(v + u d^2) + u bv  and  m <- m + u d.  The d^2 term is the spread *between* the two
    means; without it a drifting stream looks calmer than it is.

    Source:
        Exponentially weighted moments of a mixture (1 - u) * old + u * seen; Finch 2009, Incremental calculation of
        weighted mean and variance, section 9, for u at each sample.
    """
    (mean, variance), (seen_mean, seen_variance) = moments, seen
    distance = seen_mean - mean
    moved = (1 - momentum) * (variance + momentum * distance.square()) + momentum * seen_variance
    return mean + momentum * distance, moved
