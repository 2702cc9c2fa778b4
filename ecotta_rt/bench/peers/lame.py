"""LAME: correct the answers to a batch so that frames with like features get like classes; change no parameter.

Source: Boudiaf et al. 2022, Parameter-free Online Test-time Adaptation, CVPR, arXiv 2201.05718, section 4. The
network keeps the statistics of its training. With q the softmax outputs and w the affinities of a batch it minimises,
over distributions z,

    sum_i KL(z_i || q_i)  -  sum_ij w_ij z_i . z_j                                                        (equation 4)

by repeating z_i <- softmax(log q_i + sum_j w_ij z_j) (equation 7). Hyper-parameters: of the authors' choices
(github.com/fiveai/LAME) 5 nearest neighbours by features of length 1; up to 100 iterations, stop at a relative change
of the objective of 1e-8. Their code has a Gaussian kernel as well, `rbf`.

Frames of one class beside each other make it strong; on shuffled ones it joins what does not belong together. A frame
alone has no neighbours: the answer is the source network's.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ecotta_rt.bench.peers.peer import Peer
from ecotta_rt.errors import NetworkError, UsageError

__all__ = ["Lame", "affinity_of", "corrected", "objective"]

_TINY = 1e-10
_STOP = 1e-8


def affinity_of(features: Tensor, neighbours: int, kind: Literal["knn", "rbf"]) -> Tensor:
    """How near frames are to each other.

    Args:
        features: `[N, D]`.
        neighbours: How many count; for `rbf` how many, with the frame itself, set the width of the kernel.
        kind: `knn`: 1 for the nearest of a frame, else 0, not symmetric. `rbf`: exp(-d^2 / (2 s^2)).

    Returns:
        float32 `[N, N]`.
    """
    features = F.normalize(features, dim=1)
    distances = torch.cdist(features, features, compute_mode="donot_use_mm_for_euclid_dist")
    if kind == "rbf":
        width = distances.topk(min(neighbours, len(features)), largest=False).values[:, -1].mean()
        return torch.exp(-distances.square() / (2 * width.square().clamp_min(_TINY)))
    distances.fill_diagonal_(-1.0)  # a frame is its own nearest, whoever has the same features
    nearest = distances.topk(min(neighbours + 1, len(features)), largest=False).indices[:, 1:]
    return torch.zeros_like(distances).scatter_(1, nearest, 1.0)


def objective(assigned: Tensor, log_probabilities: Tensor, affinity: Tensor) -> Tensor:
    """Equation 4 of distributions `[N, C]`, a scalar."""
    kept = torch.special.xlogy(assigned, assigned) - assigned * log_probabilities
    value: Tensor = (kept - assigned * (affinity @ assigned)).sum()
    return value


def corrected(log_probabilities: Tensor, affinity: Tensor, iterations: int = 100) -> Tensor:
    """Log of the distributions that minimise the objective: `[N, C]` to `[N, C]`."""
    logs, before = log_probabilities, float("inf")
    for iteration in range(iterations):
        logs = (log_probabilities + affinity @ logs.exp()).log_softmax(1)
        now = float(objective(logs.exp(), log_probabilities, affinity))
        if iteration > 1 and abs(now - before) <= _STOP * abs(before):
            break
        before = now
    return logs


class Lame(Peer):
    """The network as trained, its answers to a batch corrected by each other.

    Args:
        network: See `Peer`. Its last Linear is taken for the classifier, and what goes in for the features.
        neighbours: See `affinity_of`.
        affinity: Its kind.
        symmetric: Take the mean of the affinities of both directions.
        iterations: At most.

    Raises:
        NetworkError: The network has no Linear.
    """

    normalisation = "source"

    def __init__(
        self,
        network: nn.Module,
        *,
        neighbours: int = 5,
        affinity: Literal["knn", "rbf"] = "knn",
        symmetric: bool = False,
        iterations: int = 100,
    ) -> None:
        super().__init__(network, "lame")
        if affinity not in ("knn", "rbf"):
            raise UsageError(f"affinity {affinity!r}: known are knn and rbf")
        self.network.eval().requires_grad_(False)
        linear = [module for module in self.network.modules() if isinstance(module, nn.Linear)]
        if not linear:
            raise NetworkError(
                f"{type(network).__name__} has no Linear layer, so LAME cannot tell its features; try `source`"
            )
        linear[-1].register_forward_pre_hook(self._keep)
        self._neighbours, self._affinity, self._symmetric = neighbours, affinity, symmetric
        self._iterations = iterations

    def _answer(self, frames: Tensor) -> Tensor:
        return self._predict(frames)

    @torch.no_grad()
    def _predict(self, frames: Tensor) -> Tensor:
        logs = (self.network(frames).softmax(1) + _TINY).log()
        affinity = affinity_of(self._features.flatten(1), self._neighbours, self._affinity)
        if self._symmetric:
            affinity = (affinity + affinity.T) / 2
        return corrected(logs, affinity, self._iterations)

    def _keep(self, classifier: nn.Module, given: tuple[Tensor, ...]) -> None:
        self._features = given[0]
