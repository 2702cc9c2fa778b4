"""How many channels a network's frames have."""

from torch import nn

from ecotta_rt.errors import NetworkError

__all__ = ["input_channels"]


def input_channels(network: nn.Module) -> int:
    """1 or 3, by its first convolution.

    Raises:
        NetworkError: It takes another number, or has no convolution.
    """
    first = next((module for module in network.modules() if isinstance(module, nn.Conv2d)), None)
    if first is None:
        raise NetworkError(f"{type(network).__name__} has no convolution: expected a network of pictures")
    if first.in_channels not in (1, 3):
        raise NetworkError(
            f"{type(network).__name__} takes frames of {first.in_channels} channels, by its first convolution; pictures "
            "have 3, or 1 for grey ones"
        )
    return first.in_channels
