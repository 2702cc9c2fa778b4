"""Where a norm's mean and variance come from: the three normalisation modes as one small object.

    batch     the current batch (the paper's protocol)
    running   those that a step is given, constants in the backward; and what each frame has of its own is told
    source    those that a step is given, and nothing is told

Nobody moves statistics here: `running` tells what each frame's are, and `ecotta_rt.adapt.moving` moves them between
steps. A norm whose momentum is 0 is held: neither the batch nor the stream touches its statistics, in any mode.

A `Statistics` lives for one step. A segment that is run again in the backward is normalised by the same numbers.
"""

from collections.abc import Mapping
from types import MappingProxyType

import torch
import torch.nn.functional as F
from torch import Tensor

from ecotta_rt.options import TRACKED, Normalisation

__all__ = ["Moments", "Statistics", "batch_moments", "frame_moments"]

Moments = tuple[Tensor, Tensor]
"""Per-channel mean and biased variance, each float32 `[C]`; of each of several frames, `[N, C]`."""


class Statistics:
    """Normalises for every norm of the network during one step.

    Args:
        mode: Which rule of the three.
        known: Moments by norm name: what `running`, `source` and norms that are held use.
        momenta: By norm name, the momentum of norms that have one of their own; 0 holds a norm.
        telling: Whether `running` shall tell what each frame has of its own.

    Attributes:
        used: By norm name, the moments of the batch, `[C]`, that were used; `batch` mode alone.
        seen: By norm name, each frame's own moments, see `frame_moments`; in `running` mode, of norms not held.
    """

    def __init__(
        self,
        mode: Normalisation,
        known: Mapping[str, Moments],
        momenta: Mapping[str, float] = MappingProxyType({}),
        telling: bool = True,
    ) -> None:
        self._mode, self._known, self._momenta = mode, known, momenta
        self._telling = telling and mode in TRACKED
        self.used: dict[str, Moments] = {}
        self.seen: dict[str, Moments] = {}

    def through_batch(self, name: str) -> bool:
        """Whether this norm's moments depend on the frames in a way that an exact gradient must follow."""
        return self._mode == "batch" and self._momenta.get(name) != 0.0

    def moments(self, name: str, x: Tensor) -> Moments:
        """Those that norm `name` uses for `x`, float32 `[N, C, H, W]`; through those of the batch a gradient flows."""
        if self.through_batch(name):
            mean, variance = x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0)
            self.used.setdefault(name, (mean.detach(), variance.detach()))
            return mean, variance
        if self._telling and name not in self.seen and self._momenta.get(name) != 0.0:
            self.seen[name] = frame_moments(x.detach())
        return self._known[name]

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


@torch.library.custom_op("ecotta::frame_moments", mutates_args=())
def frame_moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Each frame's own mean and biased variance a channel, of `[N, C, H, W]`: `[N, C]` each, of a single frame `[C]`.

    One operator, so that a trace shows what it is and not how it is done.
    """
    variance, mean = torch.var_mean(x, (2, 3), correction=0)
    return (mean[0], variance[0]) if len(x) == 1 else (mean, variance)


@frame_moments.register_fake
def _(x: Tensor) -> tuple[Tensor, Tensor]:
    shape = x.shape[1:2] if len(x) == 1 else x.shape[:2]
    return x.new_empty(shape), x.new_empty(shape)


def batch_moments(x: Tensor) -> Moments:
    """Per-channel mean and biased variance of `[N, C, H, W]`, each float32 `[C]`; no gradient flows through them."""
    # The first half of batch norm's own kernel: many times faster on a CPU than `var_mean`.
    mean, variance = torch.ops.aten.batch_norm_update_stats(x.detach(), None, None, 0.0)
    return mean, variance
