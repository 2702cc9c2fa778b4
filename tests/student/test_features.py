import pytest
import torch
from torch import nn

from ecotta_rt.errors import NetworkError
from ecotta_rt.prepare.networks import build_network
from ecotta_rt.student.features import Featured


def test_features_are_what_the_last_linear_layer_takes():
    network = build_network("resnet-8", classes=4).eval()
    featured = Featured(network, torch.zeros(1, 3, 16, 16))
    frames = torch.rand(2, 3, 16, 16)

    features, logits = featured(frames)

    assert (featured.width, featured.classes) == (64, 4)
    assert torch.equal(network.linear(features), logits) and torch.equal(network(frames), logits)


def test_a_convolution_at_the_end_is_one_too_and_looking_changes_nothing():
    network = nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.AdaptiveAvgPool2d(1), nn.Conv2d(6, 5, 1), nn.Flatten()
    )
    before = {name: value.clone() for name, value in network.state_dict().items()}

    featured = Featured(network, torch.ones(1, 3, 8, 8))

    assert (featured.width, featured.classes) == (6, 5) and network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    featured(torch.rand(2, 3, 8, 8))
    featured.close()
    assert not any(module._forward_pre_hooks for module in network.modules())


def test_refuses_networks_without_one_and_frames_they_do_not_take():
    with pytest.raises(NetworkError, match="no linear layer at its end"):
        Featured(nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveMaxPool2d(1), nn.Flatten()), torch.zeros(1, 3, 8, 8))
    with pytest.raises(NetworkError, match="does not take frames of 3x8x8"):
        Featured(nn.Sequential(nn.Flatten(), nn.Linear(12, 2)), torch.zeros(1, 3, 8, 8))
    with pytest.raises(NetworkError, match="no logits"):
        Featured(nn.Conv2d(3, 4, 3), torch.zeros(1, 3, 8, 8))
