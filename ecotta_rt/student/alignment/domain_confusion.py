"""SymNets: two classifiers, one a domain, and features that confuse them class by class.

Logits z = [z_s ; z_t] of 2K outputs come from the heads of source and target; p is the softmax over all 2K. The heads
learn to tell domains apart by which half gets the probability; the features learn to give both halves the same.

Source: Zhang et al. 2019, Domain-Symmetric Networks, arXiv 1904.04663, equations 5 to 12, as its public code has them.
Here log of a sum of probabilities is a difference of logsumexps: nothing has to be guarded against log 0.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ecotta_rt.student.alignment.gradient_reversal import dann_coefficient

__all__ = ["Confusion", "backbone_loss", "heads_loss"]


def heads_loss(source: Tensor, labels: Tensor, target: Tensor) -> Tensor:
    """What the two heads minimise: each right about the source's classes, together right about the domain.

    Args:
        source: Logits of both heads on source frames, `[N, 2K]`, the source's head first.
        labels: int64 `[N]`, 0 to K - 1.
        target: Logits on target frames, `[M, 2K]`.
    """
    of_source, of_target = source.chunk(2, 1)
    classes = F.cross_entropy(of_source, labels) + F.cross_entropy(of_target, labels)
    return classes - _log_halves(source)[0].mean() - _log_halves(target)[1].mean()


def backbone_loss(source: Tensor, labels: Tensor, target: Tensor, weight: float, *, entropy: bool = True) -> Tensor:
    """What the features minimise: both halves alike, for each class on the source and as wholes on the target.

    Args:
        source: As for `heads_loss`.
        labels: As for `heads_loss`.
        target: As for `heads_loss`.
        weight: Of the target's terms: `dann_coefficient` of the run.
        entropy: Add the entropy of target answers, both halves taken together; the paper's full loss.
    """
    count = source.shape[1] // 2
    by_class = (F.cross_entropy(source, labels) + F.cross_entropy(source, labels + count)) / 2
    on_source, on_target = _log_halves(target)
    confusion = -(on_source.mean() + on_target.mean()) / 2
    if entropy:
        log_p = F.log_softmax(target, 1)
        log_q = torch.logaddexp(log_p[:, :count], log_p[:, count:])
        confusion = confusion - (log_q.exp() * log_q).sum(1).mean()
    return by_class + weight * confusion


def _log_halves(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Logs of the probability of each half, `[N]` each."""
    total = logits.logsumexp(1)
    first, second = logits.chunk(2, 1)
    return first.logsumexp(1) - total, second.logsumexp(1) - total


class Confusion(nn.Module):
    """SymNet's losses on features, as an alignment with two heads of its own.

    One backward does both objectives: the heads see detached features, and the features pass through detached heads.

    Args:
        features: Width of the features.
        classes: K.
    """

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.heads = nn.Linear(features, 2 * classes)

    def forward(self, source: Tensor, target: Tensor, labels: Tensor, done: float) -> Tensor:
        """`heads_loss` for the heads plus `backbone_loss` for what made the features; `done` is the run's share."""
        for_heads = heads_loss(self.heads(source.detach()), labels, self.heads(target.detach()))
        weight, bias = self.heads.weight.detach(), self.heads.bias.detach()
        on_source, on_target = (F.linear(features, weight, bias) for features in (source, target))
        return for_heads + backbone_loss(on_source, labels, on_target, dann_coefficient(done))
