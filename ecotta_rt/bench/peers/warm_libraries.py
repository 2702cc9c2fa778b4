"""Make torch load now what it would load later."""

import torch
from torch import nn

__all__ = ["warm_libraries"]


def warm_libraries() -> None:
    """Run one training step of a toy network, so that libraries are counted as libraries.

    torch starts its threads, pages in its convolutions and imports 70 MiB of compiler (for the optimisers) at their
    first use. Without this a method that trains would carry that weight, and one that does not would seem to save it.
    Every measured process does the same, whatever its method.
    """
    toy = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 2, 1))
    optimiser = torch.optim.SGD(toy.parameters(), lr=0.1, momentum=0.9)
    toy(torch.rand(4, 3, 32, 32)).log_softmax(1).mean().backward()
    optimiser.step()
