"""ROID: weighted likelihood ratio and consistency, weights drawn back to the source, answers corrected by a prior.

Source: Marsden et al. 2024, Universal Test-time Adaptation through Weight Ensembling, Diversity Weighting, and Prior
Correction, WACV, arXiv 2306.00650, section 4. Hyper-parameters: the authors' for CIFAR-10-C
(classification/cfgs/cifar10_c/roid.yaml and conf.py of github.com/mariodoebler/test-time-adaptation): Adam, learning
rate 1e-3, 0.99 of the weights stay in each step, moving average of predictions 0.9, temperature 1/3. Their batch is
200; here it is the stream's.

Two differences. The prior multiplies probabilities, as in the paper; the authors' code multiplies logits. The augmented
view repeats the edge outside the frame, as CoTTA's does; theirs mirrors it.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ecotta_rt.bench.peers.cotta_augment import augment
from ecotta_rt.bench.peers.peer import Peer, affine_parameters, require_classes, use_batch_statistics
from ecotta_rt.method.losses import entropy_nats

__all__ = ["Roid", "diverse_and_certain", "likelihood_ratio", "prior_corrected", "symmetric_cross_entropy"]

_MOST = 0.99  # of a probability in the likelihood ratio, whose gradient vanishes towards 1
_TINY = 1e-5


def likelihood_ratio(logits: Tensor) -> Tensor:
    """Soft likelihood ratio, equation 2: -sum_c p_c ln(p_c / sum_{j != c} p_j), `[N, C]` to `[N]`."""
    probabilities = logits.softmax(1).clamp(max=_MOST)
    return -(probabilities * (probabilities / (1 - probabilities) + _TINY).log()).sum(1)


def symmetric_cross_entropy(one: Tensor, other: Tensor) -> Tensor:
    """Equation 7: half the cross-entropy in each direction, of two `[N, C]`; gradients go to both. `[N]`."""
    there = (other.softmax(1) * one.log_softmax(1)).sum(1)
    back = (one.softmax(1) * other.log_softmax(1)).sum(1)
    return -(there + back) / 2


def diverse_and_certain(logits: Tensor, mean_probabilities: Tensor, temperature: float) -> Tensor:
    """Weights of frames, equations 4 to 6: exp(diversity certainty / T), 0 for the less diverse.

    Args:
        logits: `[N, C]`.
        mean_probabilities: `[C]`, moving average of predictions.
        temperature: T.

    Returns:
        float32 `[N]`. Diversity (1 - cosine to the moving average) and certainty (minus the entropy) are both stretched
        to [0, 1] over the batch.
    """
    diversity = _stretched(1 - F.cosine_similarity(mean_probabilities[None], logits.softmax(1), dim=1))
    certainty = _stretched(-entropy_nats(logits))
    return torch.exp(diversity * certainty / temperature) * (diversity >= diversity.mean())


def prior_corrected(logits: Tensor) -> Tensor:
    """Answers times the smoothed prior of this batch, equations 9 and 10: `[N, C]` to `[N, C]`.

    With m the mean prediction and g = max(1/N, 1/C) / max_c m the prior is (m + g) / (1 + g C).
    """
    mean = logits.softmax(1).mean(0)
    frames, classes = logits.shape
    smoothing = max(1 / frames, 1 / classes) / mean.max()
    return logits + ((mean + smoothing) / (1 + smoothing * classes)).log()


class Roid(Peer):
    """One Adam step a batch on scale and shift, predictions from the forward before it.

    Args:
        network: See `Peer`.
        learning_rate: Adam's.
        source_memory: Share of the weights that stays in each step, the rest is the source's (alpha).
        prediction_memory: Share of the old mean prediction that stays (beta).
        temperature: Of the weights (T).
        seed: Of the augmentation.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        learning_rate: float = 1e-3,
        source_memory: float = 0.99,
        prediction_memory: float = 0.9,
        temperature: float = 1 / 3,
        seed: int = 0,
    ) -> None:
        super().__init__(network, "roid")
        use_batch_statistics(self.network)
        self._affine = list(affine_parameters(self.network).values())
        self._source = [parameter.detach().clone() for parameter in self._affine]
        self.trainable_parameters = sum(parameter.numel() for parameter in self._affine)
        self._learning_rate = learning_rate
        self._source_memory, self._prediction_memory = source_memory, prediction_memory
        self._temperature = temperature
        self._seed = seed
        self._generator = torch.Generator()
        self.reset()

    def _answer(self, frames: Tensor) -> Tensor:
        with torch.enable_grad():
            logits: Tensor = self.network(frames)
        require_classes(logits.shape[1])
        with torch.no_grad():
            weights = self._weights(logits)
        learning = weights > 0
        with torch.enable_grad():
            view = self.network(augment(frames[learning], self._generator, noise_std=0.0, blur=False))
            losses = likelihood_ratio(logits[learning]) + symmetric_cross_entropy(view, logits[learning])
            torch.autograd.backward((weights[learning] * losses).sum() / len(frames))
        self._optimiser.step()
        self._optimiser.zero_grad()
        self._return()
        return prior_corrected(logits.detach())

    def _predict(self, frames: Tensor) -> Tensor:
        return prior_corrected(super()._predict(frames))

    @torch.no_grad()
    def reset(self) -> None:
        for parameter, source in zip(self._affine, self._source, strict=True):
            parameter.copy_(source)
            parameter.grad = None
        self._optimiser = torch.optim.Adam(self._affine, self._learning_rate, betas=(0.9, 0.999))
        self._mean_probabilities: Tensor | None = None
        self._generator.manual_seed(self._seed)

    def _weights(self, logits: Tensor) -> Tensor:
        """By the mean prediction so far, which then takes in this one's; it begins as the same for every class."""
        old = self._mean_probabilities
        if old is None:
            old = torch.full_like(logits[0], 1 / logits.shape[1])
        self._mean_probabilities = old.lerp(logits.softmax(1).mean(0), 1 - self._prediction_memory)
        return diverse_and_certain(logits, old, self._temperature)

    @torch.no_grad()
    def _return(self) -> None:
        """Weight ensembling, equation 3."""
        for parameter, source in zip(self._affine, self._source, strict=True):
            parameter.lerp_(source, 1 - self._source_memory)


def _stretched(values: Tensor) -> Tensor:
    """To [0, 1]; zeros where all are alike."""
    low, high = values.min(), values.max()
    return (values - low) / (high - low) if bool(high > low) else torch.zeros_like(values)
