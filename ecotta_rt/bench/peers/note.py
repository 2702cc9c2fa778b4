"""NOTE: norms that correct themselves for each frame, and entropy minimisation on a class-balanced memory.

Source: Gong et al. 2022, NOTE: Robust Continual Test-time Adaptation Against Temporal Correlation, NeurIPS, arXiv
2208.05117, sections 3.1 (instance-aware batch normalisation, IABN) and 3.2 (PBRS). Hyper-parameters: the authors'
(tta.sh of github.com/TaesikGong/NOTE): Adam, learning rate 1e-4, k = 4, statistics momentum 0.01, 64 frames of memory,
an update every 64 frames.

The authors train their network with these norms. Ours were trained with plain ones, in whose place they are put
afterwards; the larger k, the less that changes.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ecotta_rt.bench.peers.note_memory import BalancedReservoir
from ecotta_rt.bench.peers.peer import Peer, affine_parameters, require_classes
from ecotta_rt.bench.peers.replaced_norm import ReplacedNorm, channelwise, replace_norms
from ecotta_rt.method.losses import entropy_nats

__all__ = ["InstanceAwareNorm", "Note"]


class InstanceAwareNorm(ReplacedNorm):
    """Instance-aware batch normalisation, equations 3 to 7.

    A frame's own mean and variance take part only as far as they lie further from the norm's than chance explains:
    with L pixels, s_mean = sqrt(v / L) and s_variance = v sqrt(2 / (L - 1)), by k times these they are shrunk.

    In training mode the norm's are those of the batch, and move the tracked ones; gradients flow through all of them.

    Args:
        norm: See `ReplacedNorm`.
        k: Standard errors that count as chance.
        momentum: Share of a batch in the tracked statistics.
    """

    def __init__(self, norm: _BatchNorm, k: float, momentum: float) -> None:
        super().__init__(norm)
        self.k, self.share = k, momentum

    def forward(self, x: Tensor) -> Tensor:
        mean, variance = (channelwise(values, x) for values in self._own(x))
        pixels = x[0, 0].numel()
        if pixels > 1:
            spread = variance + self.eps
            own_variance, own_mean = torch.var_mean(x, list(range(2, x.ndim)), keepdim=True)
            far_mean, far_variance = own_mean - mean, own_variance - variance
            mean = mean + _shrunk(far_mean, self.k * (spread / pixels).sqrt())
            variance = (variance + _shrunk(far_variance, self.k * spread * (2 / (pixels - 1)) ** 0.5)).relu()
        scale = (variance + self.eps).rsqrt()
        if self.affine:
            scale = scale * channelwise(self.weight, x)
        # x is all that autograd keeps of an [N, C, ...]: no intermediate of that size is needed again.
        out = x * scale - mean * scale
        return out + channelwise(self.bias, x) if self.affine else out

    def _own(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The norm's mean and variance, `[C]` each."""
        if not self.training:
            return self.running_mean, self.running_var
        variance, mean = torch.var_mean(x, [axis for axis in range(x.ndim) if axis != 1])
        self.running_mean = self.running_mean.lerp(mean.detach(), self.share)
        self.running_var = self.running_var.lerp(variance.detach(), self.share)
        return mean, variance


def _shrunk(values: Tensor, by: Tensor) -> Tensor:
    """Soft shrinkage: towards 0 by so much, and not beyond."""
    return F.relu(values - by) - F.relu(-values - by)


class Note(Peer):
    """Answers with the tracked statistics, corrected frame by frame; learns once in `update_every` frames.

    Args:
        network: See `Peer`.
        classes: Number of classes.
        learning_rate: Adam's, for scale and shift.
        k: Of the norms.
        statistics_momentum: Share of a batch of memory in the statistics (m).
        capacity: Frames of memory.
        update_every: Frames between updates.
        seed: Of the memory's choices.
    """

    normalisation = "running"

    def __init__(
        self,
        network: nn.Module,
        *,
        classes: int,
        learning_rate: float = 1e-4,
        k: float = 4.0,
        statistics_momentum: float = 0.01,
        capacity: int = 64,
        update_every: int = 64,
        seed: int = 0,
    ) -> None:
        super().__init__(network, "note")
        require_classes(classes)
        replace_norms(self.network, lambda norm: InstanceAwareNorm(norm, k, statistics_momentum))
        self._affine = list(affine_parameters(self.network).values())
        self.trainable_parameters = sum(parameter.numel() for parameter in self._affine)
        self._source = {name: tensor.clone() for name, tensor in self.network.state_dict().items()}
        self._learning_rate = learning_rate
        self._memory_of = (capacity, classes)
        self.update_every = update_every
        self._seed = seed
        self.reset()

    def _answer(self, frames: Tensor) -> Tensor:
        logits = self._predict(frames)
        for frame, label in zip(frames, logits.argmax(1).tolist(), strict=True):
            self.memory.add(frame, label)
            self._seen += 1
            if self._seen % self.update_every == 0:
                self._update()
        return logits

    def reset(self) -> None:
        self.network.load_state_dict(self._source)
        self._optimiser = torch.optim.Adam(self._affine, self._learning_rate, betas=(0.9, 0.999))
        self._optimiser.zero_grad()
        self.memory = BalancedReservoir(*self._memory_of, torch.Generator().manual_seed(self._seed))
        self._seen = 0

    def _update(self) -> None:
        """One step on the mean entropy of the memory, with its statistics; these move the tracked ones."""
        self.network.train()
        with torch.enable_grad():
            torch.autograd.backward(entropy_nats(self.network(self.memory.frames())).mean())
        self._optimiser.step()
        self._optimiser.zero_grad()
        self.network.eval()
