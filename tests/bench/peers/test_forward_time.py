import pytest
import torch
from torch import Tensor, nn

from ecotta_rt.bench.peers.forward_time import fastest_forward_ms, fold_norms
from ecotta_rt.prepare.networks import build_network


def with_statistics(network: nn.Module) -> nn.Module:
    """Statistics and scales as training leaves them, not the neutral ones of a new network."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.5, 0.5)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
    return network.eval()


@pytest.mark.parametrize("model", ["wrn-40-2", "resnet-20"])
def test_folding_changes_no_prediction(model):
    torch.manual_seed(0)
    network, frames = with_statistics(build_network(model)), torch.rand(3, 3, 32, 32)

    with torch.no_grad():
        torch.testing.assert_close(fold_norms(network, frames)(frames), network(frames), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("model", "left"), [("resnet-20", 0), ("wrn-40-2", 18)])
def test_every_norm_that_follows_a_convolution_is_folded(model, left):
    """A WRN's block begins with a norm: after a sum, and at the end, there is no convolution to go into."""
    folded = fold_norms(build_network(model), torch.rand(2, 3, 32, 32))

    assert sum(isinstance(module, nn.BatchNorm2d) for module in folded.modules()) == left


def test_the_network_itself_is_left_alone():
    network = with_statistics(build_network("resnet-20"))
    before = {name: value.clone() for name, value in network.state_dict().items()}

    assert fastest_forward_ms(network, torch.rand(2, 3, 32, 32)) > 0

    torch.testing.assert_close(network.state_dict(), before, rtol=0, atol=0)


def test_a_network_that_cannot_be_traced_is_timed_as_it_is():
    class Branching(nn.Module):
        def forward(self, frames: Tensor) -> Tensor:
            return frames.flatten(1) if frames.mean() > 0 else -frames.flatten(1)

    assert fastest_forward_ms(Branching(), torch.rand(2, 3, 8, 8)) > 0
