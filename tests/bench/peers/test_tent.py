import pytest
import torch
from torch import nn

from ecotta_rt.bench.peers.peer import use_batch_statistics
from ecotta_rt.bench.peers.tent import Tent
from ecotta_rt.errors import NetworkError, UsageError
from ecotta_rt.method.losses import entropy_nats
from ecotta_rt.prepare.networks.wide_resnet import WideResNet


def _network() -> WideResNet:
    torch.manual_seed(0)
    return WideResNet(10, 1).eval()


def _frames(count: int = 8) -> torch.Tensor:
    return torch.rand(count, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def test_one_class_is_refused_because_its_entropy_is_always_zero():
    torch.manual_seed(0)
    method = Tent(WideResNet(10, 1, classes=1))

    with pytest.raises(UsageError, match="at least 2 classes, got 1"):
        method(_frames())


def test_the_first_step_is_adam_by_hand_on_the_mean_entropy():
    """Adam's first step is lr * g / (|g| + eps): both moments are the gradient itself once bias-corrected."""
    network, frames = _network(), _frames()
    by_hand = _network()
    use_batch_statistics(by_hand)
    weight = by_hand.block2.layer[0].bn1.weight
    probabilities = by_hand(frames).softmax(1)
    loss = -(probabilities * probabilities.log()).sum(1).mean()
    (gradient,) = torch.autograd.grad(loss, [weight])
    expected = weight - 1e-3 * gradient / (gradient.abs() + 1e-8)

    method = Tent(network)
    method(frames)

    torch.testing.assert_close(method.network.block2.layer[0].bn1.weight, expected, rtol=0, atol=1e-7)


def test_two_steps_equal_two_steps_of_adam_on_the_same_losses():
    network, frames = _network(), _frames()
    by_hand = _network()
    use_batch_statistics(by_hand)
    affine = [p for m in by_hand.modules() if isinstance(m, nn.BatchNorm2d) for p in m.parameters()]
    optimiser = torch.optim.Adam(affine, 1e-3)
    for _ in range(2):
        optimiser.zero_grad()
        torch.distributions.Categorical(logits=by_hand(frames)).entropy().mean().backward()
        optimiser.step()

    method = Tent(network)
    method(frames)
    method(frames)

    torch.testing.assert_close(method.network(frames), by_hand(frames), rtol=1e-5, atol=1e-6)


def test_a_batch_seen_ten_times_is_predicted_with_less_entropy():
    method, frames = Tent(_network()), _frames()

    first, *_, last = [float(entropy_nats(method(frames)).mean()) for _ in range(10)]

    assert last < first - 1e-3


def test_only_batch_norm_scale_and_shift_require_a_gradient():
    method = Tent(_network())

    training = {name for name, parameter in method.network.named_parameters() if parameter.requires_grad}

    assert training
    assert all(name.rpartition(".")[0].split(".")[-1].startswith("bn") for name in training)


def test_episodic_returns_to_the_source_where_the_corruption_changes_and_continual_does_not():
    frames = _frames()
    episodic, continual = Tent(_network(), episodic=True), Tent(_network())
    before = episodic(frames), continual(frames)

    episodic.begin_corruption("fog")
    continual.begin_corruption("fog")

    assert torch.equal(episodic(frames), before[0])
    assert not torch.equal(continual(frames), before[1])


def test_a_network_without_batch_norm_is_refused():
    with pytest.raises(NetworkError, match="no BatchNorm layer"):
        Tent(nn.Sequential(nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4)))


def test_a_batch_norm_without_scale_and_shift_is_refused():
    with pytest.raises(NetworkError, match="affine=False"):
        Tent(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, affine=False)))
