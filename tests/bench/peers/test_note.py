import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from ecotta_rt.bench.peers.note import InstanceAwareNorm, Note
from ecotta_rt.bench.peers.note_memory import BalancedReservoir
from ecotta_rt.prepare.networks.wide_resnet import WideResNet


def _network() -> WideResNet:
    torch.manual_seed(0)
    return WideResNet(10, 1).eval()


def _frames(count: int = 6, seed: int = 1) -> torch.Tensor:
    return torch.rand(count, 3, 32, 32, generator=torch.Generator().manual_seed(seed))


def _norm(mean: float = 1.0, variance: float = 4.0) -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(1, eps=0.0).eval()
    nn.init.constant_(norm.running_mean, mean)
    nn.init.constant_(norm.running_var, variance)
    return norm


def _with_moments(mean: float, variance: float, pixels: int = 16) -> torch.Tensor:
    """A frame `[1, 1, 4, 4]` of that mean and unbiased variance."""
    values = torch.randn(pixels, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    values = (values - values.mean()) / values.std()
    return (mean + variance**0.5 * values).float().view(1, 1, 4, 4)


def test_a_frame_within_chance_is_normalised_as_by_the_plain_norm():
    # k = 4 standard errors: 4 sqrt(4/16) = 2 for the mean, 4 * 4 sqrt(2/15) = 5.84 for the variance.
    x = _with_moments(mean=2.9, variance=9.8)

    torch.testing.assert_close(InstanceAwareNorm(_norm(), 4.0, 0.01)(x), _norm()(x))


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        ((5.0, 4.0), (3.0, 4.0)),  # 4 above the mean, 2 of it by chance: 1 + (4 - 2)
        ((-3.0, 4.0), (-1.0, 4.0)),
        ((1.0, 14.0), (1.0, 4 + (10 - 16 * (2 / 15) ** 0.5))),
    ],
)
def test_a_frame_beyond_chance_takes_part_with_what_lies_beyond(frame, expected):
    x = _with_moments(*frame)

    torch.testing.assert_close(InstanceAwareNorm(_norm(), 4.0, 0.01)(x), _norm(*expected)(x), rtol=1e-4, atol=1e-5)


def test_with_a_k_of_nought_it_is_an_instance_norm():
    x = torch.randn(3, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    own = (x - x.mean((2, 3), keepdim=True)) / x.std((2, 3), keepdim=True)

    torch.testing.assert_close(InstanceAwareNorm(_norm(), 0.0, 0.01)(x), own)


def test_a_single_pixel_has_no_spread_and_is_left_to_the_norm():
    x = torch.tensor([[[[9.0]]]])

    assert torch.equal(InstanceAwareNorm(_norm(), 4.0, 0.01)(x), _norm()(x))


def test_in_training_the_batch_gives_the_statistics_and_a_hundredth_of_them_stays():
    norm = InstanceAwareNorm(_norm(), 1e9, 0.01).train()  # no frame is beyond chance
    x = torch.randn(5, 1, 4, 4, generator=torch.Generator().manual_seed(1)) * 3 + 2

    torch.testing.assert_close(norm(x), (x - x.mean()) / x.std())
    torch.testing.assert_close(norm.running_mean, 0.99 * torch.ones(1) + 0.01 * x.mean())
    torch.testing.assert_close(norm.running_var, 0.99 * 4 * torch.ones(1) + 0.01 * x.var())


def test_gradients_flow_through_the_corrected_statistics():
    norm = InstanceAwareNorm(_norm().double(), 0.5, 0.01).double().train()
    x = torch.randn(2, 1, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()

    assert torch.autograd.gradcheck(norm, (x,))


def _reservoir(labels: list[int], capacity: int = 4, classes: int = 3) -> BalancedReservoir:
    memory = BalancedReservoir(capacity, classes, torch.Generator().manual_seed(0))
    for place, label in enumerate(labels):
        memory.add(torch.full((1, 1, 1), float(place)), label)
    return memory


def test_a_rare_class_takes_a_place_of_the_largest():
    assert _reservoir([0, 0, 0, 0, 1]).counts() == [3, 1, 0]
    assert _reservoir([0, 0, 0, 0, 1, 2]).counts() == [2, 1, 1]


def test_a_class_alone_is_sampled_evenly_in_time():
    capacity, seen, repeats = 4, 40, 300
    first_half = 0
    for seed in range(repeats):
        memory = BalancedReservoir(capacity, 2, torch.Generator().manual_seed(seed))
        for place in range(seen):
            memory.add(torch.full((1, 1, 1), float(place)), 0)
        first_half += int((memory.frames() < seen / 2).sum())

    share = first_half / (capacity * repeats)
    assert abs(share - 0.5) < 0.06  # four standard errors


@given(st.lists(st.integers(0, 4), min_size=1, max_size=80), st.integers(1, 12))
def test_a_reservoir_fills_up_once_and_no_class_that_came_is_crowded_out(labels, capacity):
    memory = _reservoir(labels, capacity, classes=5)

    assert len(memory) == min(len(labels), capacity)
    if capacity >= 5:
        assert [count > 0 for count in memory.counts()] == [label in labels for label in range(5)]


def test_an_update_is_an_adam_step_by_hand_on_the_mean_entropy_of_the_memory():
    frames = _frames(8)
    by_hand = Note(_network(), classes=10).network.train()
    before = by_hand.bn1.bias.clone()
    method = Note(_network(), classes=10, update_every=8)

    method(frames)
    probabilities = by_hand(method.memory.frames()).softmax(1)
    loss = -(probabilities * probabilities.log()).sum(1).mean()
    (gradient,) = torch.autograd.grad(loss, [by_hand.bn1.bias])

    expected = before - 1e-4 * gradient / (gradient.abs() + 1e-8)
    torch.testing.assert_close(method.network.bn1.bias, expected, rtol=0, atol=2e-6)
    torch.testing.assert_close(method.network.bn1.running_mean, by_hand.bn1.running_mean)


def test_single_frames_and_batches_are_the_same_to_it():
    one_by_one, together = (Note(_network(), classes=10, update_every=8) for _ in range(2))
    frames = _frames(16)
    singly = torch.cat([one_by_one(frame[None]) for frame in frames])
    batched = torch.cat([together(batch) for batch in frames.split(8)])

    torch.testing.assert_close(singly, batched, rtol=1e-4, atol=1e-5)
