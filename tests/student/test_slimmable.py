"""One set of weights at any width: it answers as the narrower network does, and learns in the shared weights."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from ecotta_rt.errors import NetworkError, UsageError
from ecotta_rt.method.cut.cost import macs
from ecotta_rt.method.cut.tracing import trace
from ecotta_rt.method.width.narrow import narrow
from ecotta_rt.prepare.networks.cifar_resnet import CifarResNet
from ecotta_rt.prepare.networks.efficientnet_lite import EfficientNetLite0
from ecotta_rt.prepare.networks.resnet import ResNet50
from ecotta_rt.prepare.networks.wide_resnet import WideResNet
from ecotta_rt.student.slimmable.recalibrate import recalibrate
from ecotta_rt.student.slimmable.slimmable import Slimmable
from ecotta_rt.student.slimmable.widths import at_ratio, operations, random_widths, ratio_for, rounded

HALF = (0.5, 0.5, 0.5)


class Own(nn.Module):
    """A gate, a concatenation, a grouped convolution and a size as a number."""

    def __init__(self):
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 16, 3, 2, 1), nn.BatchNorm2d(16)
        self.grouped, self.gate = nn.Conv2d(16, 16, 3, 1, 1, groups=4), nn.Conv2d(16, 16, 1)
        self.last, self.rows, self.logits = nn.Conv2d(32, 8, 1), nn.BatchNorm1d(8 * 64), nn.Linear(8 * 64, 4)

    def forward(self, x):
        x = self.norm(self.stem(x)).relu()
        y = self.grouped(x) * self.gate(x.mean((2, 3), keepdim=True)).sigmoid()
        z = self.last(torch.cat([x, y], 1))
        return self.logits(self.rows(z.view(z.size(0), 8 * 64)))


NETWORKS = {
    "cifar resnet": (lambda: CifarResNet(8, 4, HALF, HALF), 16),
    "wide resnet": (lambda: WideResNet(10, 1, 4), 16),
    "bottlenecks": (lambda: ResNet50(4, HALF, HALF), 32),
    "depthwise": (lambda: EfficientNetLite0(4, HALF, HALF), 32),
    "own": (Own, 16),
}
_BANKS = {}


def bank(name):
    if name not in _BANKS:
        build, side = NETWORKS[name]
        torch.manual_seed(0)
        _BANKS[name] = Slimmable(build().double(), torch.zeros(1, 3, side, side, dtype=torch.float64)), side
    return _BANKS[name]


def frames_of(side, count=4, seed=0):
    return torch.rand(count, 3, side, side, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", NETWORKS)
@settings(max_examples=5)
@given(data=st.data())
def test_any_width_answers_as_the_network_of_that_width(name, data):
    slimmable, side = bank(name)
    widths = {each: data.draw(st.integers(1, group.size)) for each, group in slimmable.groups.groups.items()}
    small = narrow(slimmable.groups, widths)

    torch.testing.assert_close(slimmable(frames_of(side), widths), small.train()(frames_of(side)), rtol=1e-9, atol=1e-9)
    assert operations(slimmable.groups, widths) == macs(trace(small, frames_of(side)).nodes, small)


def test_what_a_width_learns_is_learned_in_the_first_channels_and_nowhere_else():
    slimmable, side = bank("cifar resnet")
    widths = at_ratio(slimmable.groups, 0.25)
    small = narrow(slimmable.groups, widths).train()
    slimmable.zero_grad()

    slimmable(frames_of(side), widths).square().sum().backward()
    small(frames_of(side)).square().sum().backward()

    shared, alone = slimmable.network.layer1[0].conv1.weight.grad, small.get_parameter("layer1.0.conv1.weight").grad
    torch.testing.assert_close(shared[:4, :4], alone)
    assert not shared[4:].any() and not shared[:, 4:].any()
    assert slimmable.network.bn1.num_batches_tracked == 0  # no width has moved the statistics


def test_features_are_what_the_classifier_reads():
    slimmable, side = bank("own")
    widths = at_ratio(slimmable.groups, 0.5)

    features, places = slimmable.features(frames_of(side), widths)

    classifier = slimmable.classifier()
    logits = nn.functional.linear(features, classifier.weight[:, places], classifier.bias)
    torch.testing.assert_close(logits, slimmable(frames_of(side), widths))


def test_a_network_without_a_linear_classifier_is_refused_by_name():
    class Pooled(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 4, 1)

        def forward(self, x):
            return self.two(self.one(x)).mean((2, 3))

    with pytest.raises(NetworkError, match="node 'mean'"):
        Slimmable(Pooled(), torch.zeros(1, 3, 8, 8)).classifier()


def test_statistics_are_the_means_over_batches_of_the_first_norms_input():
    slimmable, side = bank("wide resnet")
    small = narrow(slimmable.groups, at_ratio(slimmable.groups, 0.5))
    batches = [frames_of(side, count, seed=count) for count in (4, 6)]  # each weighs the same

    assert recalibrate(small, batches) is small

    norm = small.block1.layer[0].bn1
    seen = [small.conv1(small.normalise(batch)) for batch in batches]
    torch.testing.assert_close(norm.running_mean, sum(x.mean((0, 2, 3)) for x in seen) / 2)
    torch.testing.assert_close(norm.running_var, sum(x.var((0, 2, 3)) for x in seen) / 2)
    assert norm.momentum == 0.1 and not any(module.training for module in small.modules())


def test_a_recalibrated_network_answers_as_the_bank_on_the_batch_it_was_calibrated_with():
    """Up to the n - 1 of the variance: with many pixels a channel that is little."""
    slimmable, side = bank("wide resnet")
    widths = at_ratio(slimmable.groups, 0.5)
    frames = frames_of(side, 64)

    found = recalibrate(narrow(slimmable.groups, widths), [frames])(frames)

    torch.testing.assert_close(found, slimmable(frames, widths), rtol=1e-2, atol=1e-2)


def test_statistics_need_batches_of_frames():
    slimmable, side = bank("wide resnet")
    small = narrow(slimmable.groups, {})

    with pytest.raises(UsageError, match="there are none"):
        recalibrate(small, [])
    with pytest.raises(UsageError, match="one frame"):
        recalibrate(small, [frames_of(side, 1)])


@given(st.integers(1, 4096), st.floats(0, 1, exclude_min=True))
def test_rounding_leaves_a_channel_and_takes_no_more_than_a_tenth(size, ratio):
    found = rounded(size, ratio)

    assert 1 <= found <= size
    assert found >= min(size, 0.9 * size * ratio)
    assert rounded(size, 1.0) == size


@pytest.mark.parametrize(
    ("size", "ratio", "channels"),
    [(64, 0.5, 32), (256, 0.126, 32), (256, 0.17, 40), (96, 0.3, 28), (32, 0.3, 10), (16, 0.3, 5), (16, 0.001, 1)],
)
def test_channels_come_in_multiples_of_eight_and_fewer_in_small_groups(size, ratio, channels):
    assert rounded(size, ratio) == channels


@pytest.mark.parametrize("ratio", [0, -0.5, 1.1, float("nan")])
def test_a_ratio_outside_of_its_range_is_refused(ratio):
    with pytest.raises(UsageError, match="above 0 and at most 1"):
        rounded(16, ratio)


def test_a_share_of_the_operations_is_met_by_about_its_root_of_the_channels():
    slimmable, _ = bank("cifar resnet")
    whole = operations(slimmable.groups, slimmable.groups.whole())

    for share in (1 / 16, 1 / 4, 1 / 2):
        ratio = ratio_for(slimmable.groups, share)
        found = operations(slimmable.groups, at_ratio(slimmable.groups, ratio)) / whole
        assert 0.75 * share < found < 1.3 * share
        assert 0.8 * share**0.5 < ratio < 1.2 * share**0.5


def test_random_widths_are_those_of_their_generator_and_stay_in_range():
    groups = bank("cifar resnet")[0].groups
    drawn = [random_widths(groups, 0.25, torch.Generator().manual_seed(s), each=True) for s in (0, 0, 1)]

    assert drawn[0] == drawn[1] != drawn[2]
    assert all(rounded(groups.groups[name].size, 0.25) <= count for name, count in drawn[2].items())
    same = random_widths(groups, 0.25, torch.Generator().manual_seed(0), each=False)
    assert same["layer1.0.conv1"] == same["conv1"]
