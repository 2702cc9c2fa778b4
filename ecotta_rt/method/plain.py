"""The plain form of what methods are written with: ordinary operators and ordinary autograd.

It is here to be read, and to hold the lean form (`ecotta_rt.method.lean.form`) against: same values, same gradients.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from ecotta_rt.method.losses import self_distilled_l1
from ecotta_rt.method.statistics import Statistics
from ecotta_rt.options import StepOptions

__all__ = ["NOTHING", "Plain"]

NOTHING: Mapping[str, Tensor] = MappingProxyType({})
"""No parameters."""


class Plain:
    """Operators on feature maps, float32 `[N, C, H, W]`; `statistics` normalise, what learns is in `parameters`."""

    def __init__(self, options: StepOptions) -> None:
        self._exact = options.frozen_gradient == "exact"

    def run(
        self,
        pieces: Sequence[fx.GraphModule],
        x: Tensor,
        statistics: Statistics,
        parameters: Mapping[str, Tensor] = NOTHING,
        again: bool = False,
    ) -> Tensor:
        """Stretches of the network, one behind the other.

        A norm learns whose scale is among `parameters`, as `NORM.weight`. `again`: the lean form keeps the input alone,
        and runs once more in the backward.
        """
        for piece in pieces:
            x = _Run(piece, statistics, parameters, self._exact).run(x)
        return x

    def norm(
        self, name: str, norm: nn.BatchNorm2d, x: Tensor, parameters: Mapping[str, Tensor], statistics: Statistics
    ) -> Tensor:
        """A norm whose scale and shift learn, `NAME.weight` and `NAME.bias`."""
        return _normalised(name, x, parameters[f"{name}.weight"], parameters[f"{name}.bias"], norm.eps, statistics)

    def branch(
        self,
        name: str,
        modules: tuple[nn.Conv2d, nn.BatchNorm2d],
        x: Tensor,
        parameters: Mapping[str, Tensor],
        statistics: Statistics,
    ) -> Tensor:
        """ReLU(norm(convolution(x))), all of which learns: `NAME.weight`, `NAME_norm.weight` and `NAME_norm.bias`."""
        conv, norm = modules
        convolved = F.conv2d(x, parameters[f"{name}.weight"], None, conv.stride, conv.padding)
        return F.relu(self.norm(f"{name}_norm", norm, convolved, parameters, statistics))

    def l1(self, adapted: Tensor, frozen: Tensor) -> Tensor:
        """Mean absolute difference; the gradient goes to `adapted` only."""
        return self_distilled_l1(adapted, frozen)


class _Run(fx.Interpreter):
    """Runs a stretch as it was traced, but for its norms, which ask `statistics`."""

    def __init__(
        self, piece: fx.GraphModule, statistics: Statistics, parameters: Mapping[str, Tensor], exact: bool
    ) -> None:
        super().__init__(piece)
        self._statistics, self._parameters, self._exact = statistics, parameters, exact

    def run_node(self, n: fx.Node) -> Any:
        norm = self.fetch_attr(str(n.target)) if n.op == "call_module" else None
        if not isinstance(norm, nn.BatchNorm2d):
            return super().run_node(n)
        name, x = str(n.target), self.env[n.all_input_nodes[0]]
        learns = f"{name}.weight" in self._parameters
        weight, bias = (self._parameters.get(f"{name}.{w}", getattr(norm, w)) for w in ("weight", "bias"))
        return _normalised(name, x, weight, bias, norm.eps, self._statistics, self._exact or learns)


def _normalised(
    name: str,
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
    statistics: Statistics,
    exact: bool = True,
) -> Tensor:
    """(x - mean) / sqrt(variance + eps) * weight + bias; `exact` follows the gradient through batch statistics."""
    mean, variance = statistics.moments(name, x if exact else x.detach())
    y = (x - mean.view(-1, 1, 1)) * torch.rsqrt(variance + eps).view(-1, 1, 1)
    return y if weight is None or bias is None else weight.view(-1, 1, 1) * y + bias.view(-1, 1, 1)
