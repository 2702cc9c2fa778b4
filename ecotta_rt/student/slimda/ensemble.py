"""SEED: what the widths of a bank know together teaches each of them.

    answers of the sampled widths  ->  aggregated()  ->  sharpened()  ->  seed_loss() for each width

A wider network counts at least as much as a narrower one; which ones are in the ensemble is drawn anew in each step,
hence "stochastic". The paper's weights are not known to us: these are named choices.

Source: SlimDA, arXiv 2206.06620, section on stochastic ensemble distillation, as far as its public parts say it; the
sharpening with a temperature below 1 is that of MixMatch (arXiv 1905.02249, equation 7).
"""

from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["CONFIDENCES", "aggregated", "seed_loss", "sharpened"]

CONFIDENCES: Mapping[str, Callable[[Sequence[int]], list[float]]] = {
    "rank": lambda operations: [float(sum(other <= each for other in operations)) for each in operations],
    "operations": lambda operations: [float(each) for each in operations],
    "uniform": lambda operations: [1.0 for _ in operations],
}
"""How much each width counts, from the operations of all."""


def aggregated(answers: Sequence[Tensor], operations: Sequence[int], confidence: str = "rank") -> Tensor:
    """What the widths say together, probabilities `[N, K]`, without a gradient.

    Args:
        answers: Probabilities of each width, `[N, K]`.
        operations: Multiply-accumulates of each width.
        confidence: One of `CONFIDENCES`.
    """
    weights = torch.tensor(CONFIDENCES[confidence](operations))
    weights = weights / weights.sum()
    return torch.einsum("j,jnk->nk", weights, torch.stack([answer.detach() for answer in answers]))


def sharpened(probabilities: Tensor, temperature: float) -> Tensor:
    """`p^(1/t) / sum p^(1/t)` along the last axis; a temperature below 1 makes certain answers more certain."""
    return F.softmax(probabilities.clamp_min(1e-30).log() / temperature, -1)


def seed_loss(logits: Tensor, taught: Tensor) -> Tensor:
    """Cross-entropy of one width's answers to what the ensemble says, a mean over frames.

    Args:
        logits: Of the third classifier, `[N, K]`.
        taught: From `sharpened`.
    """
    return -(taught * F.log_softmax(logits, 1)).sum(1).mean()
