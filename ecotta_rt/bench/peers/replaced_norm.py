"""A batch norm that a peer puts in the place of the network's own: same parameters and statistics, another rule."""

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ecotta_rt.errors import NetworkError

__all__ = ["ReplacedNorm", "channelwise", "replace_norms"]


class ReplacedNorm(_BatchNorm):
    """Takes over scale, shift, statistics and names of a norm; what it does with them is the subclass's.

    Args:
        norm: Its parameters and buffers are shared, not copied.

    Raises:
        NetworkError: It has no statistics of its training.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, norm: _BatchNorm) -> None:
        super().__init__(norm.num_features, norm.eps, norm.momentum, affine=norm.affine)
        if norm.running_mean is None or norm.running_var is None:
            raise NetworkError(
                f"{norm} has no statistics of its training (track_running_stats=False), and this method starts from "
                "them; try `bn` or `tent`"
            )
        self.weight, self.bias = norm.weight, norm.bias
        self.running_mean, self.running_var = norm.running_mean, norm.running_var
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        raise NotImplementedError


def replace_norms(network: nn.Module, make: Callable[[_BatchNorm], ReplacedNorm]) -> None:
    """Put another norm in the place of every batch norm, under the same name; the network is in evaluation mode then.

    Raises:
        NetworkError: There is no batch norm, or one without statistics of its training.
    """
    network.eval()
    norms = [(name, module) for name, module in network.named_modules() if isinstance(module, _BatchNorm)]
    if not norms:
        raise NetworkError(
            f"{type(network).__name__} has no BatchNorm layer and this method adapts nothing else; try `source`"
        )
    for name, norm in norms:
        network.set_submodule(name, make(norm))


def channelwise(values: Tensor, like: Tensor) -> Tensor:
    """`[C]` as `[1, C, 1, ...]`, to be broadcast over `like` `[N, C, ...]`."""
    return values.view(1, -1, *[1] * (like.ndim - 2))
