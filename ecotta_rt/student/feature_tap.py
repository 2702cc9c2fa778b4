"""What a network's classifier reads, beside its answer: the features by which networks are compared and taught."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from ecotta_rt.errors import NetworkError
from ecotta_rt.method.cut.any_layout import in_any_layout
from ecotta_rt.method.cut.last_activation import looks_like_probabilities
from ecotta_rt.method.cut.one_line import one_line
from ecotta_rt.method.modes import kept_modes

__all__ = ["FeatureTap", "Features"]


class Features(NamedTuple):
    """Of a batch.

    Attributes:
        features: `[N, D]`: the input of the classifier, the mean over places where it has places.
        logits: `[N, classes]`.
    """

    features: Tensor
    logits: Tensor


class FeatureTap:
    """Calls a network and hands out what its classifier read, gradients included.

    The classifier is the linear layer or convolution that is called last. The network itself is not changed.

    Args:
        network: It.
        shape: (C, H, W) of its frames: it is tried once, in evaluation mode.
        trains: It is to be trained, and tried in training mode too; its buffers stay as they are.

    Attributes:
        network: As given.
        width: D, the number of features.
        classes: The number of logits.

    Raises:
        NetworkError: It cannot run on such frames, has no classifier, or gives no logits `[N, classes]`.
    """

    def __init__(self, network: nn.Module, shape: tuple[int, int, int], *, trains: bool = False) -> None:
        self.network = in_any_layout(network)
        frames = torch.rand(4, *shape, generator=torch.Generator().manual_seed(0))
        buffers = [(buffer, buffer.clone()) for buffer in network.buffers()]
        try:
            with kept_modes(network), torch.no_grad(), torch.random.fork_rng(devices=[]):
                network.eval()
                self._classifier = _called_last(network, frames)
                features, logits = self(frames)
                if trains:
                    network.train()
                    self(frames)
        except NetworkError:
            raise
        except Exception as error:  # somebody's own code
            size = "x".join(map(str, shape))
            raise NetworkError(
                f"{type(network).__name__} cannot run on frames {size}: {type(error).__name__}: {one_line(error)}"
            ) from error
        finally:
            for buffer, before in buffers:
                buffer.detach().copy_(before)
        if logits.ndim != 2 or len(logits) != len(frames) or logits.shape[1] < 2:
            raise NetworkError(
                f"{type(network).__name__} gives {list(logits.shape)} for 4 frames, not logits [4, classes]"
            )
        if not bool(torch.isfinite(logits).all() and torch.isfinite(features).all()):
            raise NetworkError(f"{type(network).__name__} gives NaN or infinite values for frames in [0, 1]")
        if looks_like_probabilities(logits):
            raise NetworkError(f"{type(network).__name__} gives probabilities; return what goes into its softmax")
        self.width, self.classes = features.shape[1], logits.shape[1]

    def __call__(self, frames: Tensor) -> Features:
        """Run it on float32 `[N, C, H, W]` in [0, 1], in its present mode; NetworkError where it gives no tensor."""
        read: list[Tensor] = []
        hook = self._classifier.register_forward_pre_hook(lambda _, given: read.append(given[0]))
        try:
            logits: object = self.network(frames)
        finally:
            hook.remove()
        if not isinstance(logits, Tensor):  # auxiliary heads, in many networks in training alone
            mode = "training" if self.network.training else "evaluation"
            raise NetworkError(
                f"{type(self.network).__name__} gives a {type(logits).__name__} in {mode} mode, not logits "
                "[N, classes]; return the logits alone"
            )
        return Features(self._mean_over_places(read[-1]), logits)

    def _mean_over_places(self, read: Tensor) -> Tensor:
        """`[N, D]` of what the classifier read: `[N, D, H, W]`, or of a linear layer `[N, ..., D]`."""
        if read.ndim == 2:
            return read
        return read.flatten(1, -2).mean(1) if isinstance(self._classifier, nn.Linear) else read.flatten(2).mean(2)


def _called_last(network: nn.Module, frames: Tensor) -> nn.Module:
    called: list[nn.Module] = []
    layers = [module for module in network.modules() if isinstance(module, nn.Linear | nn.Conv2d)]
    hooks = [layer.register_forward_hook(lambda layer, *_: called.append(layer)) for layer in layers]
    try:
        network(frames)
    finally:
        for hook in hooks:
            hook.remove()
    if not called:
        raise NetworkError(f"{type(network).__name__} calls no linear layer and no convolution: it has no classifier")
    return called[-1]
