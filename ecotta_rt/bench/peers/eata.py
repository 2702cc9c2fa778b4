"""EATA: entropy minimisation on reliable, non-redundant frames, held near the source by a Fisher regulariser.

Source: Niu et al. 2022, Efficient Test-Time Model Adaptation without Forgetting, ICML, arXiv 2204.02610. Equation
numbers below are the paper's, as the authors' implementation (github.com/mr-eggplant/EATA) quotes them.
Hyper-parameters for CIFAR-10: E_0 = 0.4 ln C, SGD with momentum 0.9 and learning rate 5e-3, epsilon 0.4 (0.05 for
ImageNet), beta 1 (2000 for ImageNet), moving average 0.9, Fisher importance from 2000 unlabelled in-distribution
frames.

Not the other EATA that goes round for CIFAR-10-C: some benchmarks run it with Adam and learning rate 1e-3.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ecotta_rt.bench.peers.peer import Peer, affine_parameters, require_classes, use_batch_statistics
from ecotta_rt.method.losses import entropy_nats, entropy_threshold_nats

__all__ = ["Eata", "fisher_importance", "reliable_and_new"]

_ENTROPY_MARGIN = 0.4  # E_0 over ln C, equation 3
_MEMORY = 0.9  # share of the old mean prediction that is kept, equation 4
_FISHER_FRAMES = 2000
_FISHER_BATCH = 64


def reliable_and_new(logits: Tensor, mean_probabilities: Tensor | None, d_margin: float) -> Tensor:
    """Which frames to learn from: certain enough, and unlike the mean prediction so far.

    Args:
        logits: `[N, C]`.
        mean_probabilities: `[C]`, moving average of the chosen frames' predictions; None before the first.
        d_margin: Largest absolute cosine similarity to that average (epsilon).

    Returns:
        bool `[N]`.

    Source:
        Equations 3 (entropy below 0.4 ln C) and 5 (redundancy).
    """
    chosen = entropy_nats(logits) < entropy_threshold_nats(logits.shape[1], _ENTROPY_MARGIN)
    if mean_probabilities is not None:
        similarity = F.cosine_similarity(mean_probabilities[None], logits.softmax(1), dim=1)
        chosen = chosen & (similarity.abs() < d_margin)
    return chosen


def fisher_importance(network: nn.Module, affine: dict[str, nn.Parameter], frames: Tensor) -> dict[str, Tensor]:
    """How much the network's own predictions on source frames hang on each scale and shift.

    Args:
        network: Ready to adapt: batch statistics, and only `affine` requires a gradient.
        affine: Its trainable parameters by name.
        frames: float32 `[M, C, H, W]`, in-distribution, unlabelled; the first 2000 are used.

    Returns:
        One tensor per parameter, of its shape: the squared gradient of the cross-entropy against the predicted label,
        averaged over batches of 64.

    Source:
        Equation 9 sums over single frames. The authors' code squares the gradient of the batch mean instead, and beta
        belongs to that scale, so we do the same.
    """
    # A last batch of one frame has no batch statistics.
    batches = [batch for batch in torch.split(frames[:_FISHER_FRAMES], _FISHER_BATCH) if len(batch) > 1]
    importance = {name: torch.zeros_like(parameter) for name, parameter in affine.items()}
    for batch in batches:
        with torch.enable_grad():
            logits: Tensor = network(batch)
            loss = F.cross_entropy(logits, logits.argmax(1))
            gradients = torch.autograd.grad(loss, list(affine.values()))
        for total, gradient in zip(importance.values(), gradients, strict=True):
            total += gradient.square() / len(batches)
    return importance


class Eata(Peer):
    """One SGD step a batch on the weighted entropy of the chosen frames, predictions from the forward before it.

    A batch without a chosen frame changes nothing.

    Args:
        network: See `Peer`.
        source_frames: float32 `[M, C, H, W]`, M at least 2, unlabelled frames of the training distribution, shuffled.
            Without them there is no Fisher regulariser: the method is then the paper's ETA, and calls itself `eta`.
        learning_rate: SGD's.
        d_margin: Largest cosine similarity to the mean prediction (epsilon).
        fisher_weight: Of the regulariser against the entropy (beta).
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        source_frames: Tensor | None = None,
        learning_rate: float = 5e-3,
        d_margin: float = 0.4,
        fisher_weight: float = 1.0,
    ) -> None:
        super().__init__(network, "eta" if source_frames is None else "eata")
        use_batch_statistics(self.network)
        self._affine = affine_parameters(self.network)
        self._source = {name: parameter.detach().clone() for name, parameter in self._affine.items()}
        self.trainable_parameters = sum(parameter.numel() for parameter in self._affine.values())
        self._learning_rate = learning_rate
        self._d_margin = d_margin
        self._fisher_weight = fisher_weight
        self._fisher: dict[str, Tensor] = {}
        if source_frames is not None:
            self._require(source_frames)
            self._fisher = fisher_importance(self.network, self._affine, source_frames)
        self.reset()

    def _answer(self, frames: Tensor) -> Tensor:
        with torch.enable_grad():
            logits: Tensor = self.network(frames)
        require_classes(logits.shape[1])
        chosen = reliable_and_new(logits.detach(), self._mean_probabilities, self._d_margin)
        if bool(chosen.any()):  # else a mean over nothing, which is NaN
            self._remember(logits.detach()[chosen].softmax(1).mean(0))
            with torch.enable_grad():
                torch.autograd.backward(self._entropy_loss(logits[chosen]) + self._forgetting_loss())
            self._optimiser.step()
            self._optimiser.zero_grad()
        return logits.detach()

    @torch.no_grad()
    def reset(self) -> None:
        for name, parameter in self._affine.items():
            parameter.copy_(self._source[name])
            parameter.grad = None
        self._optimiser = torch.optim.SGD(self._affine.values(), self._learning_rate, momentum=0.9)
        self._mean_probabilities: Tensor | None = None

    def _entropy_loss(self, logits: Tensor) -> Tensor:
        """Equation 3's weight exp(E_0 - H) times the entropy: the more certain a frame, the more it weighs."""
        entropies = entropy_nats(logits)
        weights = torch.exp(entropy_threshold_nats(logits.shape[1], _ENTROPY_MARGIN) - entropies.detach())
        return (weights * entropies).mean()

    def _forgetting_loss(self) -> Tensor:
        """Equations 8 and 9, weighted: distance to the source where the source's predictions depend on it."""
        loss = torch.zeros(())
        for name, importance in self._fisher.items():
            loss = loss + (importance * (self._affine[name] - self._source[name]).square()).sum()
        return self._fisher_weight * loss

    def _remember(self, probabilities: Tensor) -> None:
        old = self._mean_probabilities
        self._mean_probabilities = probabilities if old is None else _MEMORY * old + (1 - _MEMORY) * probabilities
