import pytest
import torch
import torch.nn.functional as F

from ecotta_rt.bench.peers.cotta import Cotta
from ecotta_rt.errors import UsageError
from ecotta_rt.prepare.networks.wide_resnet import WideResNet


def _network() -> WideResNet:
    torch.manual_seed(0)
    return WideResNet(10, 1).eval()


def _frames(count: int = 6) -> torch.Tensor:
    return torch.rand(count, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def _weights(network: torch.nn.Module) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in network.parameters()])


def test_where_the_source_is_sure_the_prediction_is_the_teachers_on_the_plain_frames():
    method = Cotta(_network(), confidence=0.0)
    expected = method.teacher(_frames())

    assert torch.equal(method(_frames()), expected)


def test_where_the_source_is_unsure_the_teacher_averages_that_many_augmented_views(monkeypatch):
    calls = []

    def augment(frames, generator):
        calls.append(len(frames))
        return frames * (0.5 if len(calls) == 1 else 1.0)

    monkeypatch.setattr("ecotta_rt.bench.peers.cotta.augment", augment)
    method = Cotta(_network(), augmentations=4)
    expected = (method.teacher(0.5 * _frames()) + 3 * method.teacher(_frames())) / 4

    logits = method(_frames())

    assert calls == [6] * 4
    torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-6)


def test_the_student_takes_an_adam_step_towards_the_teachers_prediction():
    frames, method = _frames(), Cotta(_network(), confidence=0.0, restore=0.0)
    weight = method.network.fc.weight
    loss = -(method.teacher(frames).softmax(1) * method.network(frames).log_softmax(1)).sum(1).mean()
    (gradient,) = torch.autograd.grad(loss, [weight])
    expected = (weight - 1e-3 * gradient / (gradient.abs() + 1e-8)).detach()

    method(frames)

    torch.testing.assert_close(method.network.fc.weight, expected, rtol=0, atol=1e-6)


def test_the_teacher_moves_a_thousandth_of_the_way_to_the_updated_student():
    method = Cotta(_network(), confidence=0.0, restore=0.0)
    before = _weights(method.teacher)

    method(_frames())

    student = _weights(method.network)
    expected = 0.999 * before + 0.001 * student
    assert not torch.equal(student, before)
    # Two roundings of values up to 1.
    torch.testing.assert_close(_weights(method.teacher), expected, rtol=0, atol=2.5e-7)


@pytest.mark.parametrize("restore", [0.01, 0.3])
def test_that_share_of_the_students_weights_returns_to_the_source(restore):
    method = Cotta(_network(), confidence=0.0, restore=restore, learning_rate=0.1)

    method(_frames())

    # Adam's first step moves every weight with a gradient by 0.1, so an equal weight is a restored one.
    restored = float((_weights(method.network) == _weights(method.anchor)).float().mean())
    # 77,850 weights: three standard deviations of the share are 0.0011 and 0.005.
    assert restored == pytest.approx(restore, abs=0.005)


def test_everything_returns_when_the_restore_probability_is_one():
    method = Cotta(_network(), confidence=0.0, restore=1.0)

    method(_frames())

    assert torch.equal(_weights(method.network), _weights(method.anchor))


def test_the_source_network_never_changes():
    method = Cotta(_network(), augmentations=2)
    before = _weights(method.anchor)

    method(_frames())

    assert torch.equal(_weights(method.anchor), before)


def test_another_seed_gives_other_augmentations():
    first, second = (Cotta(_network(), augmentations=2, seed=seed)(_frames()) for seed in (0, 1))

    assert not torch.equal(first, second)


def test_a_prediction_made_of_no_views_is_refused():
    with pytest.raises(UsageError, match="augmentations is 0"):
        Cotta(_network(), augmentations=0)


def test_the_loss_is_the_cross_entropy_against_soft_labels():
    """Guards the meaning of cross_entropy with probabilities, on which the student's loss rests."""
    logits, target = torch.randn(4, 5, generator=torch.Generator().manual_seed(0)), torch.eye(5)[:4] * 0.6 + 0.08

    by_hand = -(target * logits.log_softmax(1)).sum(1).mean()

    torch.testing.assert_close(F.cross_entropy(logits, target), by_hand)
