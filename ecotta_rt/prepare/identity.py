"""Start the meta groups as an exact identity: without a single picture, the network answers as the frozen one.

    x~ = BN(f(x)) + ReLU(BN'(Conv(x)))
       = (f(x) - b) + ReLU(0 * h + b)  =  f(x)

BN holds its statistics, mean 0 and variance 1 - eps, so that it is 1 * f(x) - b in every normalisation mode; with
statistics of the batch it would rescale each batch, and no weight could undo that. BN' has weight 0 and bias b > 0: its
ReLU is open, a gradient reaches its weight, and the convolution as soon as that weight has moved.
"""

import torch
from torch import nn

from ecotta_rt.method.attach import momenta_note
from ecotta_rt.method.ecotta import AdaptableNetwork
from ecotta_rt.method.state import initial_state, to_adapt_state
from ecotta_rt.state import AdaptState

__all__ = ["identity_state", "start_as_identity"]

_OPEN = 2.0**-100
"""b: so small that no feature but a zero feels it, and -b + b is 0: the identity is exact to the last bit."""


@torch.no_grad()
def start_as_identity(network: AdaptableNetwork) -> None:
    """Set the groups of `network` in place, and hold the statistics of their norms on the parts' outputs."""
    for group in network.meta_groups:
        _set(group.norm, weight=1.0, bias=-_OPEN, variance=1.0 - group.norm.eps)
        _set(group.conv_norm, weight=0.0, bias=_OPEN, variance=1.0)
    held = {f"groups.{k}.norm": 0.0 for k in range(len(network.meta_groups))}
    network.set_momenta({**network.momenta, **held})


def identity_state(network: AdaptableNetwork) -> AdaptState:
    """`start_as_identity`, as a state: the groups' parameters, and the frozen norms' statistics of the checkpoint."""
    start_as_identity(network)
    state = to_adapt_state(initial_state(network), network.digest())
    metadata = {"warm_up": "none: the groups start as an identity", **momenta_note(network)}
    return AdaptState(state.parameters, state.momentum, state.statistics, state.network_digest, metadata)


def _set(norm: nn.BatchNorm2d, *, weight: float, bias: float, variance: float) -> None:
    assert norm.running_mean is not None and norm.running_var is not None
    norm.weight.fill_(weight)
    norm.bias.fill_(bias)
    norm.running_mean.zero_()
    norm.running_var.fill_(variance)
