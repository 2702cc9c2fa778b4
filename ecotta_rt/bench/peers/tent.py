"""TENT: minimise the entropy of the predictions over scale and shift of the batch norms.

Source: Wang et al. 2021, Tent: Fully Test-Time Adaptation by Entropy Minimization, ICLR, arXiv 2006.10726, sections 3.1
to 3.3. Hyper-parameters: the authors' CIFAR-10-C configuration (cfgs/tent.yaml of github.com/DequanWang/tent): Adam,
learning rate 1e-3, betas 0.9 and 0.999, no weight decay, one step a batch. Their batch is 200; here it is the stream's.
"""

import copy

import torch
from torch import Tensor, nn

from ecotta_rt.bench.peers.batch_norm import affine_parameters, use_batch_statistics
from ecotta_rt.bench.peers.checks import input_channels, require_batch, require_classes, require_frames
from ecotta_rt.method.losses import entropy_nats

__all__ = ["Tent"]


class Tent:
    """One Adam step a batch on the mean entropy, predictions from the forward before it.

    Args:
        network: Takes frames `[N, C, H, W]` in [0, 1], returns logits. Copied; the caller's stays untouched.
        name: The id under which results are reported.
        episodic: Return to the source network whenever the stream changes corruption. That the stream tells so is
            knowledge a device does not have; the authors' CIFAR-10-C example uses it.
        learning_rate: Adam's.
        single_frames: Take a batch of one frame too, so that its step can be timed. Its own statistics then stand for
            the batch's, and predictions collapse.
    """

    normalisation = "batch"

    def __init__(
        self,
        network: nn.Module,
        *,
        name: str = "tent",
        episodic: bool = False,
        learning_rate: float = 1e-3,
        single_frames: bool = False,
    ) -> None:
        self.name = name
        self.network = copy.deepcopy(network)
        use_batch_statistics(self.network)
        self._channels = input_channels(self.network)
        self._require = require_frames if single_frames else require_batch
        # Nothing else requires a gradient, so autograd keeps no more than TENT needs.
        self._affine = list(affine_parameters(self.network).values())
        self._source = [parameter.detach().clone() for parameter in self._affine]
        self.trainable_parameters = sum(parameter.numel() for parameter in self._affine)
        self._episodic = episodic
        self._learning_rate = learning_rate
        self.reset()

    def __call__(self, frames: Tensor) -> Tensor:
        self._require(frames, self._channels)
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
