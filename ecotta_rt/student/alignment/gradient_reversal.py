"""Domain-adversarial alignment: features that tell a domain classifier nothing about where a frame comes from.

    features -> reverse_gradient(coefficient) -> domain classifier -> source or target?

The classifier learns to tell; what comes before it learns, by the reversed gradient, that it cannot.

Source: Ganin et al. 2016, Domain-Adversarial Training of Neural Networks, arXiv 1505.07818, equations 9 to 18, and
section 5.2.2 for the coefficient.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["Adversarial", "dann_coefficient", "reverse_gradient"]

_HIDDEN = 100
"""Units of the hidden layer, as in the paper's classifiers for digits."""


class _Reverse(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, coefficient: float) -> Tensor:
        ctx.coefficient = coefficient
        return values.view_as(values)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return -ctx.coefficient * gradients[0], None


def reverse_gradient(values: Tensor, coefficient: float) -> Tensor:
    """The same values; a gradient that comes back is multiplied by -`coefficient`."""
    reversed_: Tensor = _Reverse.apply(values, coefficient)  # type: ignore[no-untyped-call]
    return reversed_


def dann_coefficient(done: float) -> float:
    """`2 / (1 + exp(-10 p)) - 1` of the share p of the run that is done: 0 at first, 1 at the end."""
    return 2 / (1 + math.exp(-10 * done)) - 1


class Adversarial(nn.Module):
    """DANN's loss on features, with its domain classifier.

    Args:
        features: Width of the features.
        classes: Of the network; not used here.
    """

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.classifier = nn.Sequential(nn.Linear(features, _HIDDEN), nn.ReLU(), nn.Linear(_HIDDEN, 1))

    def forward(self, source: Tensor, target: Tensor, labels: Tensor, done: float) -> Tensor:
        """Mean binary cross-entropy of the source's frames plus that of the target's.

        Args:
            source: Features `[N, F]`.
            target: Features `[M, F]`.
            labels: Not used: domains are aligned as wholes.
            done: Share of the run that is done.
        """
        coefficient = dann_coefficient(done)
        from_source, from_target = (
            self.classifier(reverse_gradient(features, coefficient)) for features in (source, target)
        )
        return F.binary_cross_entropy_with_logits(
            from_source, torch.zeros_like(from_source)
        ) + F.binary_cross_entropy_with_logits(from_target, torch.ones_like(from_target))
