"""CoTTA: a student follows an augmentation-averaged teacher; a few of its weights return to the source every step.

Source: Wang et al. 2022, Continual Test-Time Domain Adaptation, CVPR, arXiv 2203.13591, section 3. Hyper-parameters:
the authors' CIFAR-10-C configuration (cifar/cfgs/cifar10/cotta.yaml of github.com/qinenergy/cotta): Adam, learning
rate 1e-3, teacher's memory 0.999, 32 augmentations where the source's mean confidence is under 0.92, restore
probability 0.01. Their batch is 200; here it is the stream's.

The cost: one forward and backward of the student, one forward of the source, one or 32 of the teacher, that is up to 36
forward passes a frame when a backward counts as two.
"""

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ecotta_rt.bench.peers.cotta_augment import augment
from ecotta_rt.bench.peers.peer import Peer, require_classes, use_batch_statistics
from ecotta_rt.errors import UsageError

__all__ = ["Cotta"]


class Cotta(Peer):
    """All weights train, and the prediction is the teacher's, from before the update.

    Args:
        network, single_frames: See `Peer`. Copied three times: student, teacher, source.
        learning_rate: Adam's.
        teacher_memory: Share of the teacher that stays in each step (alpha).
        augmentations: How many augmented views the teacher averages.
        confidence: Under this mean confidence of the source network the teacher averages (p_th).
        restore: Probability of each weight to return to the source in each step (p).
        seed: Of augmentations and restored weights.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        learning_rate: float = 1e-3,
        teacher_memory: float = 0.999,
        augmentations: int = 32,
        confidence: float = 0.92,
        restore: float = 0.01,
        seed: int = 0,
        single_frames: bool = False,
    ) -> None:
        if augmentations < 1:
            raise UsageError(
                f"augmentations is {augmentations}; the teacher needs at least one view, the paper uses 32"
            )
        super().__init__(network, "cotta", single_frames=single_frames)
        use_batch_statistics(self.network)
        self.anchor = copy.deepcopy(self.network).requires_grad_(False)
        self.teacher = copy.deepcopy(self.anchor)
        self.network.requires_grad_(True)
        self.trainable_parameters = sum(parameter.numel() for parameter in self.network.parameters())
        self._learning_rate = learning_rate
        self._teacher_memory = teacher_memory
        self._augmentations = augmentations
        self._confidence = confidence
        self._restore_probability = restore
        self._generator = torch.Generator()
        self._seed = seed
        self.reset()

    def _answer(self, frames: Tensor) -> Tensor:
        # Teacher before student, so that the student's graph is not kept through 32 forward passes.
        target = self._teach(frames)
        require_classes(target.shape[1])
        with torch.enable_grad():
            torch.autograd.backward(F.cross_entropy(self.network(frames), target.softmax(1)))
        self._optimiser.step()
        self._optimiser.zero_grad()
        self._follow()
        self._restore()
        return target

    @torch.no_grad()
    def reset(self) -> None:
        for network in (self.network, self.teacher):
            for parameter, source in zip(network.parameters(), self.anchor.parameters(), strict=True):
                parameter.copy_(source)
                parameter.grad = None
        self._optimiser = torch.optim.Adam(self.network.parameters(), self._learning_rate, betas=(0.9, 0.999))
        self._generator.manual_seed(self._seed)

    def _predict(self, frames: Tensor) -> Tensor:
        before = self._generator.get_state()
        logits = self._teach(frames)
        self._generator.set_state(before)  # so that the step goes the way it would have gone
        return logits

    @torch.no_grad()
    def _teach(self, frames: Tensor) -> Tensor:
        """Augmentation-averaged pseudo-labels: the teacher's logits, over 32 views where the source is unsure."""
        confidence = self.anchor(frames).softmax(1).amax(1).mean()
        if float(confidence) >= self._confidence:
            plain: Tensor = self.teacher(frames)
            return plain
        total = self.teacher(augment(frames, self._generator))
        for _ in range(self._augmentations - 1):
            total += self.teacher(augment(frames, self._generator))
        mean: Tensor = total / self._augmentations
        return mean

    @torch.no_grad()
    def _follow(self) -> None:
        """Weight-averaged pseudo-labels: the teacher takes 1 - alpha of the student."""
        for slow, fast in zip(self.teacher.parameters(), self.network.parameters(), strict=True):
            slow.lerp_(fast, 1 - self._teacher_memory)

    @torch.no_grad()
    def _restore(self) -> None:
        """Stochastic restoration: each weight returns to the source with a small probability, Adam's moments stay."""
        for parameter, source in zip(self.network.parameters(), self.anchor.parameters(), strict=True):
            mask = torch.rand(parameter.shape, generator=self._generator) < self._restore_probability
            parameter.copy_(torch.where(mask.to(parameter.device), source, parameter))
