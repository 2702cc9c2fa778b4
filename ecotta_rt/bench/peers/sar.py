"""SAR: minimise the entropy of reliable frames, and its sharpness with it; return to the source where it gets too low.

Source: Niu et al. 2023, Towards Stable Test-Time Adaptation in Dynamic Wild World, ICLR, arXiv 2302.12400, equations 2
to 6 and algorithm 1. Hyper-parameters: the authors' for ResNet-50 (github.com/mr-eggplant/SAR): SGD, learning rate
2.5e-4, momentum 0.9, E_0 = 0.4 ln C, rho 0.05, moving average 0.9, reset below 0.2.

The paper's point is norms that do not ask the batch (group and layer norms), where it takes single frames too. With
batch norms, as in the networks here, it normalises with the statistics of the batch and suffers from small or
correlated batches as TENT does; the paper shows that itself (its table 2). The authors leave the last stage of a
ResNet-50 (`layer4`) as it is; our networks have no stage of that name, and all their norms learn. Their threshold of
the reset is meant for 1,000 classes; with 10, entropies are lower, and it comes often.
"""

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ecotta_rt.bench.peers.peer import Peer, require_classes, use_batch_statistics
from ecotta_rt.errors import NetworkError
from ecotta_rt.method.losses import entropy_nats, entropy_threshold_nats

__all__ = ["Sar"]

_ENTROPY_MARGIN = 0.4  # E_0 over ln C, equation 2
_MEMORY = 0.9  # share of the old moving average, section 4
_TINY = 1e-12
_NORMS = (_BatchNorm, nn.GroupNorm, nn.LayerNorm)
_HELD = ("layer4", "blocks.9", "blocks.10", "blocks.11")
"""Parts of names of the layers that the authors leave as they are, in ResNets and vision transformers."""


class Sar(Peer):
    """One sharpness-aware SGD step a batch, predictions from the forward before it.

    A batch without a reliable frame changes nothing.

    Args:
        network, single_frames: See `Peer`.
        learning_rate: SGD's.
        rho: How far the weights climb before the second gradient is taken.
        reset_below: Moving average of the loss under which all returns to the source (e_0), nats; 0 for never.

    Raises:
        NetworkError: No norm of the network has scale and shift.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        learning_rate: float = 2.5e-4,
        rho: float = 0.05,
        reset_below: float = 0.2,
        single_frames: bool = False,
    ) -> None:
        super().__init__(network, "sar", single_frames=single_frames)
        self.network.eval().requires_grad_(False)
        if any(isinstance(module, _BatchNorm) for module in self.network.modules()):
            use_batch_statistics(self.network)
        else:
            self.normalisation = "source"  # no norm asks the batch
        self._affine = _learning(self.network)
        self._source = [parameter.detach().clone() for parameter in self._affine]
        self.trainable_parameters = sum(parameter.numel() for parameter in self._affine)
        self._learning_rate, self._rho, self._reset_below = learning_rate, rho, reset_below
        self.reset()

    def _answer(self, frames: Tensor) -> Tensor:
        with torch.enable_grad():
            logits: Tensor = self.network(frames)
            require_classes(logits.shape[1])
            limit = entropy_threshold_nats(logits.shape[1], _ENTROPY_MARGIN)
            entropies = entropy_nats(logits)
            reliable = entropies.detach() < limit
            if bool(reliable.any()):
                self._learn(frames, entropies[reliable].mean(), reliable, limit)
        return logits.detach()

    @torch.no_grad()
    def reset(self) -> None:
        for parameter, source in zip(self._affine, self._source, strict=True):
            parameter.copy_(source)
            parameter.grad = None
        self._optimiser = torch.optim.SGD(self._affine, self._learning_rate, momentum=0.9)
        self.mean_loss: float | None = None

    def _learn(self, frames: Tensor, loss: Tensor, reliable: Tensor, limit: float) -> None:
        here = [parameter.detach().clone() for parameter in self._affine]
        self._climb(torch.autograd.grad(loss, self._affine))
        entropies = entropy_nats(self.network(frames))[reliable]
        kept = entropies[entropies.detach() < limit]  # from up there some are reliable no more
        gradients = torch.autograd.grad(kept.mean(), self._affine) if len(kept) else None
        with torch.no_grad():
            for parameter, value in zip(self._affine, here, strict=True):
                parameter.copy_(value)
        if gradients is None:
            return
        for parameter, gradient in zip(self._affine, gradients, strict=True):
            parameter.grad = gradient
        self._optimiser.step()
        self._optimiser.zero_grad()
        self._recover(float(kept.detach().mean()))

    @torch.no_grad()
    def _climb(self, gradients: tuple[Tensor, ...]) -> None:
        """Equation 4: rho g / |g|, with one norm over all parameters."""
        norm = torch.stack([gradient.norm() for gradient in gradients]).norm()
        for parameter, gradient in zip(self._affine, gradients, strict=True):
            parameter.add_(gradient * (self._rho / (norm + _TINY)))

    def _recover(self, loss: float) -> None:
        """Algorithm 1, lines 11 to 13; the moving average begins anew with the weights."""
        old = self.mean_loss
        self.mean_loss = loss if old is None else _MEMORY * old + (1 - _MEMORY) * loss
        if self.mean_loss < self._reset_below:
            self.reset()


def _learning(network: nn.Module) -> list[nn.Parameter]:
    affine = [
        parameter
        for name, norm in network.named_modules()
        if isinstance(norm, _NORMS) and not any(held in name for held in _HELD)
        for parameter in norm.parameters(recurse=False)
    ]
    if not affine:
        raise NetworkError(
            f"no batch, group or layer norm of {type(network).__name__} has scale and shift, so nothing can be trained"
        )
    for parameter in affine:
        parameter.requires_grad_(True)
    return affine
