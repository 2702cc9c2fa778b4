"""The losses: entropy of the answers, and distance to the frozen network's own features.

Source:
    Song et al. 2023, EcoTTA, arXiv 2303.01904, section 3.2 (entropy minimisation and self-distilled regularisation).
"""

import math

import torch
from torch import Tensor

__all__ = ["entropy_nats", "entropy_threshold_nats", "self_distilled_l1"]


def entropy_nats(logits: Tensor) -> Tensor:
    """Shannon entropy of softmax(logits): float32 `[N, C]` to `[N]`, in nats, in [0, ln C]."""
    log_probabilities = torch.log_softmax(logits, dim=1)
    return -(log_probabilities.exp() * log_probabilities).sum(dim=1)


def entropy_threshold_nats(classes: int, margin: float) -> float:
    """H0 = margin * ln C: a frame learns only when its entropy lies below."""
    return margin * math.log(classes)


def self_distilled_l1(adapted: Tensor, frozen: Tensor) -> Tensor:
    """Mean absolute difference over all elements; the gradient goes to `adapted` only.

    Args:
        adapted: float32 `[N, C, H, W]`, a group's output.
        frozen: Same shape, the frozen part's own output.
    """
    return (adapted - frozen.detach()).abs().mean()
