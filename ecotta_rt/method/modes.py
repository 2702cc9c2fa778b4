"""Look at a network in another mode, and leave it as it was: somebody may hold parts of it in evaluation."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

__all__ = ["kept_modes"]


@contextmanager
def kept_modes(network: nn.Module) -> Iterator[None]:
    """Give every module its mode back at the end, each its own."""
    modes = {module: module.training for module in network.modules()}
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
