"""The features of any network: what goes into its last linear layer."""

import torch
from torch import Tensor, nn

from ecotta_rt.errors import NetworkError
from ecotta_rt.method.cut.one_line import one_line

__all__ = ["Featured"]


class Featured(nn.Module):
    """A network that gives its features beside its answers.

    Args:
        network: Float32 frames `[N, C, H, W]` in [0, 1] to logits `[N, K]`. Used as it is, not copied.
        example: A frame, `[1, C, H, W]`, to find the last linear layer with (or 1x1 convolution, where it is one).

    Attributes:
        network: The same.
        width: Of the features.
        classes: K.

    Raises:
        NetworkError: It does not take such frames, or its answers come from no linear layer.
    """

    def __init__(self, network: nn.Module, example: Tensor) -> None:
        super().__init__()
        self.network = network
        self._seen: list[Tensor] = []
        head, features, logits = _last_linear(network, example)
        self.width: int = features.shape[1]
        self.classes: int = logits.shape[1]
        self._hook = head.register_forward_pre_hook(self._keep)

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Features `[N, width]` and logits `[N, classes]`."""
        logits: Tensor = self.network(frames)
        return self._seen.pop(), logits

    def close(self) -> None:
        """Leave the network as it came, without the hook that looks at its features."""
        self._hook.remove()

    def _keep(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self._seen[:] = [inputs[0].flatten(1)]


def _last_linear(network: nn.Module, example: Tensor) -> tuple[nn.Module, Tensor, Tensor]:
    """It, what goes into it, and the network's answer."""
    called: list[tuple[nn.Module, Tensor, Tensor]] = []

    def note(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        called.append((module, inputs[0].flatten(1), output.flatten(1)))

    kinds = (nn.Linear, nn.Conv2d)
    handles = [module.register_forward_hook(note) for module in network.modules() if isinstance(module, kinds)]
    training = network.training
    try:
        with torch.no_grad():
            logits: object = network.eval()(example)
    except (RuntimeError, ValueError, IndexError) as error:
        size = "x".join(map(str, example.shape[1:]))
        raise NetworkError(f"{type(network).__name__} does not take frames of {size}: {one_line(error)}") from error
    finally:
        network.train(training)
        for handle in handles:
            handle.remove()
    if not isinstance(logits, Tensor) or logits.dim() != 2:
        raise NetworkError(f"{type(network).__name__} answers with no logits [N, classes]")
    fitting = [(module, inputs) for module, inputs, output in called if output.shape == logits.shape]
    if not fitting:
        raise NetworkError(f"{type(network).__name__} has no linear layer at its end: its features are unknown")
    return *fitting[-1], logits
