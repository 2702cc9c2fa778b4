import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from ecotta_rt.bench.peers.rotta import RobustNorm, Rotta, timeliness
from ecotta_rt.bench.peers.rotta_memory import CategoryBalancedMemory
from ecotta_rt.errors import NetworkError
from ecotta_rt.prepare.networks.wide_resnet import WideResNet


def _network() -> WideResNet:
    torch.manual_seed(0)
    return WideResNet(10, 1).eval()


def _frames(count: int = 6, seed: int = 1) -> torch.Tensor:
    return torch.rand(count, 3, 32, 32, generator=torch.Generator().manual_seed(seed))


def _norm() -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(2, eps=1e-5)
    norm.running_mean.copy_(torch.tensor([1.0, -2.0]))
    norm.running_var.copy_(torch.tensor([4.0, 0.25]))
    nn.init.constant_(norm.weight, 3.0)
    nn.init.constant_(norm.bias, 0.5)
    return norm.eval()


def test_a_robust_norm_at_rest_is_the_norm_it_took_over():
    x = torch.randn(3, 2, 4, 4, generator=torch.Generator().manual_seed(0))

    assert torch.equal(RobustNorm(_norm(), 0.05)(x), _norm()(x))


def test_a_robust_norm_in_training_normalises_with_a_twentieth_of_the_batch_and_keeps_that():
    norm = RobustNorm(_norm(), 0.05).train()
    x = torch.randn(3, 2, 4, 4, generator=torch.Generator().manual_seed(0)) + 5
    seen_mean, seen_variance = x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0)
    mean = 0.95 * torch.tensor([1.0, -2.0]) + 0.05 * seen_mean
    variance = 0.95 * torch.tensor([4.0, 0.25]) + 0.05 * seen_variance
    expected = 3 * (x - mean.view(1, 2, 1, 1)) / (variance.view(1, 2, 1, 1) + 1e-5).sqrt() + 0.5

    torch.testing.assert_close(norm(x), expected)
    torch.testing.assert_close(norm.running_mean, mean)
    torch.testing.assert_close(norm.running_var, variance)


def test_gradients_flow_through_the_batchs_share_of_the_statistics():
    norm = RobustNorm(_norm().double(), 0.3).double().train()
    x = torch.randn(2, 2, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()

    def forward(x: torch.Tensor) -> torch.Tensor:
        norm.running_mean, norm.running_var = torch.zeros(2).double(), torch.ones(2).double()
        return norm(x)

    assert torch.autograd.gradcheck(forward, (x,))


def test_a_norm_without_statistics_of_its_training_is_refused():
    with pytest.raises(NetworkError, match="no statistics of its training"):
        Rotta(nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, track_running_stats=False)), classes=4)


def _memory(*added: tuple[int, float], capacity: int = 4, classes: int = 2) -> CategoryBalancedMemory:
    """Frames are told apart by their value, the place at which they were added."""
    memory = CategoryBalancedMemory(capacity, classes)
    for place, (label, entropy) in enumerate(added):
        memory.add(torch.full((1, 1, 1), float(place)), label, entropy)
    return memory


def _held(memory: CategoryBalancedMemory) -> list[int]:
    return [int(frame) for frame in memory.frames().flatten()]


def test_of_a_full_class_the_most_uncertain_of_equal_age_leaves():
    # Two of a class fit. Scores when the third comes: 1/(1+e^-.5) + .6/ln 2 = 1.488, 1/(1+e^-.25) + .1/ln 2 = .706.
    assert _held(_memory((0, 0.6), (0, 0.1), (0, 0.2))) == [1, 2]


def test_an_old_frame_leaves_before_a_new_one_of_the_same_certainty():
    assert _held(_memory((0, 0.1), (0, 0.1), (0, 0.1))) == [1, 2]


def test_a_newcomer_more_uncertain_than_all_stays_outside_and_the_others_still_grow_older():
    memory = _memory((0, 0.1), (0, 0.1), (0, 0.69))

    assert _held(memory) == [0, 1]
    torch.testing.assert_close(memory.ages(), torch.tensor([3 / 4, 2 / 4]))


def test_a_rare_class_takes_the_place_of_the_worst_of_the_largest():
    # Three classes, capacity 4: up to two of a class, and four in all.
    memory = _memory((0, 0.2), (0, 0.9), (1, 0.3), (1, 0.1), (2, 0.0), capacity=4, classes=3)

    assert _held(memory) == [0, 2, 3, 4]
    assert memory.labels() == [0, 1, 1, 2]


@given(st.lists(st.tuples(st.integers(0, 4), st.floats(0, math.log(5))), max_size=60), st.integers(1, 9))
def test_a_memory_never_exceeds_its_capacity_nor_a_class_its_share(added, capacity):
    memory = _memory(*added, capacity=capacity, classes=5)

    assert len(memory) <= capacity
    assert all(memory.labels().count(label) <= math.ceil(capacity / 5) for label in range(5))
    assert len(memory) > 0 or not added


def test_the_timeliness_weight_falls_with_age_from_a_half():
    ages = torch.tensor([0.0, 1.0, 3.0])

    torch.testing.assert_close(timeliness(ages), torch.exp(-ages) / (1 + torch.exp(-ages)))


def test_an_answer_comes_from_the_source_statistics_until_the_first_update():
    network, method = _network(), Rotta(_network(), classes=10)

    torch.testing.assert_close(method(_frames()), network(_frames()))
    torch.testing.assert_close(method(_frames(1)), network(_frames(1)))


def test_single_frames_and_batches_are_the_same_to_it():
    one_by_one, together = (Rotta(_network(), classes=10, update_every=8) for _ in range(2))
    frames = _frames(16)
    singly = torch.cat([one_by_one(frame[None]) for frame in frames])
    batched = torch.cat([together(batch) for batch in frames.split(8)])

    torch.testing.assert_close(singly, batched, rtol=1e-4, atol=1e-5)


def test_an_update_is_an_adam_step_by_hand_on_the_weighted_cross_entropy_and_the_teacher_follows(monkeypatch):
    monkeypatch.setattr("ecotta_rt.bench.peers.rotta.augment", lambda frames, generator: 0.5 * frames)
    method = Rotta(_network(), classes=10, update_every=6)
    frames, by_hand = _frames(6), Rotta(_network(), classes=10)
    for network in (by_hand.network, by_hand.teacher):
        network.train()
    before = by_hand.teacher.bn1.bias.clone()

    method(frames)  # all six are taken in, since the memory has room for seven of a class
    kept, ages = method.memory.frames(), method.memory.ages()
    target = by_hand.teacher(kept).softmax(1)
    loss = -(target * F.log_softmax(by_hand.network(0.5 * kept), 1)).sum(1)
    loss = (loss * torch.exp(-ages) / (1 + torch.exp(-ages))).mean()
    (gradient,) = torch.autograd.grad(loss, [by_hand.network.bn1.bias])
    student = before - 1e-3 * gradient / (gradient.abs() + 1e-8)

    torch.testing.assert_close(method.network.bn1.bias, student, rtol=0, atol=2e-5)
    torch.testing.assert_close(method.teacher.bn1.bias, before.lerp(method.network.bn1.bias, 1e-3), rtol=0, atol=1e-9)
    torch.testing.assert_close(method.teacher.bn1.running_mean, by_hand.teacher.bn1.running_mean)
    torch.testing.assert_close(method.network.bn1.running_mean, by_hand.network.bn1.running_mean)


def test_between_updates_nothing_moves():
    method = Rotta(_network(), classes=10, update_every=64)
    first = method(_frames())

    assert torch.equal(method(_frames()), first)
