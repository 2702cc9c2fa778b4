"""TENT: minimise the entropy of the predictions over scale and shift of the batch norms.

Source: Wang et al. 2021, Tent: Fully Test-Time Adaptation by Entropy Minimization, ICLR, arXiv 2006.10726, sections 3.1
to 3.3. Hyper-parameters: the authors' CIFAR-10-C configuration (cfgs/tent.yaml of github.com/DequanWang/tent): Adam,
learning rate 1e-3, betas 0.9 and 0.999, no weight decay, one step a batch. Their batch is 200; here it is the stream's.
"""

import torch
from torch import Tensor, nn

from ecotta_rt.bench.peers.peer import Peer, affine_parameters, require_classes, use_batch_statistics
from ecotta_rt.method.losses import entropy_nats

__all__ = ["Tent"]


class Tent(Peer):
    """One Adam step a batch on the mean entropy, predictions from the forward before it.

    Args:
        network, name, single_frames: See `Peer`.
        episodic: Return to the source network whenever the stream changes corruption. That the stream tells so is
            knowledge a device does not have; the authors' CIFAR-10-C example uses it.
        learning_rate: Adam's.
        reset_every: Steps from one return to the source network to the next, as RDumb's (arXiv 2306.05401); None for
            never.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        name: str = "tent",
        episodic: bool = False,
        learning_rate: float = 1e-3,
        reset_every: int | None = None,
        single_frames: bool = False,
    ) -> None:
        super().__init__(network, name, single_frames=single_frames)
        use_batch_statistics(self.network)
        # Nothing else requires a gradient, so autograd keeps no more than TENT needs.
        self._affine = list(affine_parameters(self.network).values())
        self._source = [parameter.detach().clone() for parameter in self._affine]
        self.trainable_parameters = sum(parameter.numel() for parameter in self._affine)
        self._episodic = episodic
        self._learning_rate = learning_rate
        self._reset_every = reset_every
        self.reset()

    def _answer(self, frames: Tensor) -> Tensor:
        if self._steps == self._reset_every:
            self.reset()
        self._steps += 1
        with torch.enable_grad():
            logits: Tensor = self.network(frames)
            require_classes(logits.shape[1])
            torch.autograd.backward(entropy_nats(logits).mean())
        self._optimiser.step()
        self._optimiser.zero_grad()
        return logits.detach()

    def begin_corruption(self, corruption: str) -> None:
        if self._episodic:
            self.reset()

    @torch.no_grad()
    def reset(self) -> None:
        for parameter, source in zip(self._affine, self._source, strict=True):
            parameter.copy_(source)
            parameter.grad = None
        self._optimiser = torch.optim.Adam(self._affine, self._learning_rate, betas=(0.9, 0.999), weight_decay=0.0)
        self._steps = 0
