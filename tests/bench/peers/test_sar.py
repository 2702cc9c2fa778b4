import math

import pytest
import torch
from torch import nn

from ecotta_rt.bench.peers.peer import affine_parameters, use_batch_statistics
from ecotta_rt.bench.peers.sar import Sar
from ecotta_rt.errors import BadFrames, NetworkError
from ecotta_rt.prepare.networks.wide_resnet import WideResNet


def _network(confidence: float = 14.0) -> WideResNet:
    """A random network whose logits are stretched, so that some frames pass the entropy threshold."""
    torch.manual_seed(0)
    network = WideResNet(10, 1).eval()
    with torch.no_grad():
        network.fc.weight.mul_(confidence)
    return network


def _grouped() -> nn.Module:
    torch.manual_seed(0)
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.GroupNorm(2, 8), nn.ReLU(), head)
    nn.init.normal_(head[2].weight, std=20.0)
    return network.eval()


def _frames(count: int = 8, seed: int = 1) -> torch.Tensor:
    return torch.rand(count, 3, 32, 32, generator=torch.Generator().manual_seed(seed))


def _affine(method: Sar) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in method.network.parameters() if p.requires_grad])


def _entropies(logits: torch.Tensor) -> torch.Tensor:
    return -(logits.softmax(1) * logits.log_softmax(1)).sum(1)


def test_one_step_goes_down_the_gradient_at_the_point_rho_up_the_slope():
    frames, by_hand, limit = _frames(), _network(), 0.4 * math.log(10)
    use_batch_statistics(by_hand)
    affine = list(affine_parameters(by_hand).values())
    start = [p.detach().clone() for p in affine]
    first = _entropies(by_hand(frames))
    reliable = first < limit
    gradients = torch.autograd.grad(first[reliable].mean(), affine)
    length = torch.cat([g.flatten() for g in gradients]).norm()
    with torch.no_grad():
        for parameter, gradient in zip(affine, gradients, strict=True):
            parameter += 0.05 * gradient / length
    second = _entropies(by_hand(frames))[reliable]
    gradients = torch.autograd.grad(second[second < limit].mean(), affine)
    expected = torch.cat([(p - 2.5e-4 * g).flatten() for p, g in zip(start, gradients, strict=True)])

    method = Sar(_network(), reset_below=0.0)
    method(frames)

    assert 0 < int(reliable.sum()) < len(frames)
    torch.testing.assert_close(_affine(method), expected, rtol=1e-5, atol=1e-7)
    assert method.mean_loss == pytest.approx(float(second[second < limit].detach().mean()), rel=1e-4)


def test_a_batch_without_a_reliable_frame_changes_nothing():
    method = Sar(_network(confidence=0.01))
    before = _affine(method)

    method(_frames())

    assert torch.equal(_affine(method), before)
    assert method.mean_loss is None


def test_the_moving_average_keeps_nine_tenths():
    method = Sar(_network(), learning_rate=0.0, reset_below=0.0)
    method(_frames())
    first = method.mean_loss
    method(_frames(seed=2))
    second = method.mean_loss
    alone = Sar(_network(), learning_rate=0.0, reset_below=0.0)
    alone(_frames(seed=2))

    assert second == pytest.approx(0.9 * first + 0.1 * alone.mean_loss, rel=1e-4)


def test_where_the_moving_average_is_below_the_threshold_all_returns_to_the_source():
    method = Sar(_network(), learning_rate=0.1, reset_below=10.0)
    before = _affine(method)

    method(_frames())

    assert torch.equal(_affine(method), before)
    assert method.mean_loss is None


def test_with_group_norms_it_takes_single_frames_and_learns():
    method = Sar(_grouped(), learning_rate=0.1, reset_below=0.0)
    before = _affine(method)
    for seed in range(4):
        assert method(_frames(1, seed)).shape == (1, 4)

    assert method.normalisation == "source"
    assert not torch.equal(_affine(method), before)


def test_with_batch_norms_a_single_frame_is_refused():
    with pytest.raises(BadFrames, match="at least 2 frames"):
        Sar(_network())(_frames(1))


def test_the_last_stage_of_a_resnet_stays_as_it_is():
    network = nn.Module()
    network.layer3, network.layer4 = nn.BatchNorm2d(3), nn.BatchNorm2d(3)
    network.forward = lambda x: x
    method = Sar(network)

    assert method.trainable_parameters == 6
    assert not method.network.layer4.weight.requires_grad


def test_a_network_without_scale_and_shift_is_refused():
    with pytest.raises(NetworkError, match="has scale and shift"):
        Sar(nn.Sequential(nn.Conv2d(3, 4, 1)))
