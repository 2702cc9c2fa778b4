"""RoTTA: robust statistics, a category-balanced memory, and a student that follows its teacher on what is in it.

Source: Yuan et al. 2023, Robust Test-Time Adaptation in Dynamic Scenarios, CVPR, arXiv 2303.13899, section 3.
Hyper-parameters: the authors' (github.com/BIT-DA/RoTTA): Adam, learning rate 1e-3, statistics momentum (alpha) 0.05,
teacher takes 0.001 of the student (nu), 64 frames of memory, an update every 64 frames, lambda_t = lambda_u = 1.

The norms of the teacher answer with statistics that its updates have moved, never with those of the batch: frames may
come one at a time, and the answers to a batch are those to its frames alone.
"""

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ecotta_rt.bench.peers.cotta_augment import augment
from ecotta_rt.bench.peers.peer import Peer, affine_parameters, require_classes
from ecotta_rt.bench.peers.replaced_norm import ReplacedNorm, channelwise, replace_norms
from ecotta_rt.bench.peers.rotta_memory import CategoryBalancedMemory
from ecotta_rt.method.losses import entropy_nats

__all__ = ["RobustNorm", "Rotta", "timeliness"]


class RobustNorm(ReplacedNorm):
    """Robust batch normalisation, equations 2 and 3.

    In training mode its statistics become (1 - alpha) of themselves and alpha of the batch's, and normalise; gradients
    flow through the batch's share. In evaluation mode they stand still.

    Args:
        norm: See `ReplacedNorm`.
        alpha: Share of a batch.
    """

    def __init__(self, norm: _BatchNorm, alpha: float) -> None:
        super().__init__(norm)
        self.alpha = alpha

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        variance, mean = torch.var_mean(x, [axis for axis in range(x.ndim) if axis != 1], correction=0)
        mean, variance = self.running_mean.lerp(mean, self.alpha), self.running_var.lerp(variance, self.alpha)
        self.running_mean, self.running_var = mean.detach(), variance.detach()
        scale = (variance + self.eps).rsqrt()
        if self.affine:
            scale = scale * self.weight
        # x is all that autograd keeps of an [N, C, ...]: no intermediate of that size is needed again.
        out = x * channelwise(scale, x) - channelwise(mean * scale, x)
        return out + channelwise(self.bias, x) if self.affine else out


def timeliness(ages: Tensor) -> Tensor:
    """Weights of frames by age, equation 7: exp(-a) / (1 + exp(-a)), `[M]` to `[M]`."""
    return torch.sigmoid(-ages)


class Rotta(Peer):
    """Answers with the teacher; learns once in `update_every` frames, from the memory alone.

    Args:
        network: See `Peer`. Copied twice: student and teacher.
        classes: Number of classes.
        learning_rate: Adam's, for scale and shift of the student's norms.
        alpha: Share of a batch of memory in the statistics.
        teacher_memory: Share of the teacher that stays in each update (1 - nu).
        capacity: Frames of memory.
        update_every: Frames between updates.
        timeliness_weight, uncertainty_weight: In the score by which frames leave the memory (lambda_t, lambda_u).
        seed: Of the augmentation.
    """

    normalisation = "running"

    def __init__(
        self,
        network: nn.Module,
        *,
        classes: int,
        learning_rate: float = 1e-3,
        alpha: float = 0.05,
        teacher_memory: float = 0.999,
        capacity: int = 64,
        update_every: int = 64,
        timeliness_weight: float = 1.0,
        uncertainty_weight: float = 1.0,
        seed: int = 0,
    ) -> None:
        super().__init__(network, "rotta")
        require_classes(classes)
        replace_norms(self.network, lambda norm: RobustNorm(norm, alpha))
        self._affine = list(affine_parameters(self.network).values())
        self.trainable_parameters = sum(parameter.numel() for parameter in self._affine)
        self.teacher = copy.deepcopy(self.network).requires_grad_(False)
        self._source = copy.deepcopy(self.network.state_dict())
        self._learning_rate = learning_rate
        self._teacher_memory = teacher_memory
        self._memory_of = (capacity, classes, timeliness_weight, uncertainty_weight)
        self.update_every = update_every
        self._seed = seed
        self._generator = torch.Generator()
        self.reset()

    def _answer(self, frames: Tensor) -> Tensor:
        logits = self._predict(frames)
        labels, entropies = logits.argmax(1).tolist(), entropy_nats(logits).tolist()
        for frame, label, entropy in zip(frames, labels, entropies, strict=True):
            self.memory.add(frame, label, entropy)
            self._seen += 1
            if self._seen % self.update_every == 0:
                self._update()
        return logits

    @torch.no_grad()
    def _predict(self, frames: Tensor) -> Tensor:
        logits: Tensor = self.teacher(frames)
        return logits

    def reset(self) -> None:
        for network in (self.network, self.teacher):
            network.load_state_dict(self._source)
        self._optimiser = torch.optim.Adam(self._affine, self._learning_rate, betas=(0.9, 0.999))
        self._optimiser.zero_grad()
        self.memory = CategoryBalancedMemory(*self._memory_of)
        self._seen = 0
        self._generator.manual_seed(self._seed)

    def _update(self) -> None:
        """Equations 7 and 8: the student learns the teacher's answers to the memory, then the teacher follows it."""
        frames, ages = self.memory.frames(), self.memory.ages()
        for network in (self.network, self.teacher):
            network.train()
        target = self._predict(frames).softmax(1)
        with torch.enable_grad():
            logits = self.network(augment(frames, self._generator))
            losses = F.cross_entropy(logits, target, reduction="none")
            torch.autograd.backward((timeliness(ages) * losses).mean())
        self._optimiser.step()
        self._optimiser.zero_grad()
        for network in (self.network, self.teacher):
            network.eval()
        with torch.no_grad():
            for slow, fast in zip(self.teacher.parameters(), self.network.parameters(), strict=True):
                slow.lerp_(fast, 1 - self._teacher_memory)
