"""Networks that are small enough to be trained here in minutes, for `FILE.py:FACTORY`."""

from torch import nn

from ecotta_rt.prepare.networks.wide_resnet import WideResNet

__all__ = ["wrn_10_1"]


def wrn_10_1() -> nn.Module:
    """A wide residual network of 10 layers and 78 thousand weights for 10 classes at 32 x 32: 12 M operations."""
    return WideResNet(10, 1, 10)
