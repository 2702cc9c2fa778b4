"""Channel groups and narrower networks: the same sums over fewer channels, whatever the network looks like."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from ecotta_rt.errors import NetworkError, UsageError
from ecotta_rt.method.cut.partition import partition
from ecotta_rt.method.width.groups import find_groups
from ecotta_rt.method.width.narrow import narrow
from ecotta_rt.prepare.networks.cifar_resnet import CifarResNet
from ecotta_rt.prepare.networks.efficientnet_lite import EfficientNetLite0
from ecotta_rt.prepare.networks.resnet import ResNet50
from ecotta_rt.prepare.networks.wide_resnet import WideResNet

HALF = (0.5, 0.5, 0.5)


class Excite(nn.Module):
    """Squeeze and excite with linear layers."""

    def __init__(self, channels):
        super().__init__()
        self.down, self.up = nn.Linear(channels, channels // 4), nn.Linear(channels // 4, channels)

    def forward(self, x):
        batch, channels = x.shape[:2]
        return x * self.up(F.relu(self.down(x.mean((2, 3))))).sigmoid().view(batch, channels, 1, 1)


class Own(nn.Module):
    """What users write: a gate, a concatenation, a shuffled grouped convolution, sizes as numbers, a norm of rows."""

    def __init__(self):
        super().__init__()
        self.stem, self.norm1 = nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16)
        self.depthwise, self.norm2 = nn.Conv2d(16, 32, 3, 1, 1, groups=16, bias=False), nn.BatchNorm2d(32)
        self.point, self.gate = nn.Conv2d(32, 16, 1), Excite(16)
        self.grouped, self.norm3 = nn.Conv2d(32, 24, 3, 2, 1, groups=4, bias=False), nn.BatchNorm2d(24)
        self.mixed, self.norm4 = nn.Conv2d(24, 12, 1, bias=False), nn.GroupNorm(3, 12)
        self.bend = nn.PReLU(12)
        self.hidden, self.rows, self.logits = nn.Linear(12 * 16, 20), nn.BatchNorm1d(20), nn.Linear(20, 5)

    def forward(self, x):
        count = x.size(0)
        x = F.relu(self.norm1(self.stem(x)))
        y = self.gate(self.point(F.relu(self.norm2(self.depthwise(x)))) + x)
        z = F.relu(self.norm3(self.grouped(torch.cat([x, y], 1))))
        z = z.view(count, 4, 6, z.size(2), z.size(3)).transpose(1, 2).reshape(count, 24, z.size(2), z.size(3))
        left, right = self.bend(self.norm4(self.mixed(z))).chunk(2, 1)
        z = F.adaptive_avg_pool2d(torch.cat([left, left * right], 1), 4)
        return self.logits(F.relu(self.rows(self.hidden(z.view(count, 12 * 16)))))


class OwnNorm(nn.Module):
    """A norm written with the function; `prepare` gives it a twin."""

    def __init__(self, channels):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.rand(channels)), nn.Parameter(torch.rand(channels))
        self.register_buffer("mean", torch.rand(channels))
        self.register_buffer("variance", torch.rand(channels))

    def forward(self, x):
        return F.batch_norm(x, self.mean, self.variance, self.weight, self.bias, self.training)


def with_own_norm():
    return nn.Sequential(nn.Conv2d(3, 8, 3), OwnNorm(8), nn.ReLU(), nn.Conv2d(8, 6, 3), nn.Flatten(), nn.Linear(600, 4))


NETWORKS = {
    "cifar resnet": (lambda: CifarResNet(8, 10, HALF, HALF), 16),
    "wide resnet": (lambda: WideResNet(10, 1), 16),
    "bottlenecks": (lambda: ResNet50(5, HALF, HALF), 32),
    "depthwise": (lambda: EfficientNetLite0(5, HALF, HALF), 32),
    "own": (Own, 16),
    "own norm": (with_own_norm, 14),
}
_GROUPS = {}


def groups_of(name):
    if name not in _GROUPS:
        build, side = NETWORKS[name]
        torch.manual_seed(1)
        network = build()
        for norm in (module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)):
            nn.init.uniform_(norm.running_mean, -0.2, 0.2)
            nn.init.uniform_(norm.running_var, 0.5, 2.0)
            nn.init.uniform_(norm.bias, -0.2, 0.2)
        _GROUPS[name] = find_groups(network.double().eval(), torch.zeros(1, 3, side, side, dtype=torch.float64))
    return _GROUPS[name]


def frames_for(name, count=2):
    side = NETWORKS[name][1]
    return torch.rand(count, 3, side, side, dtype=torch.float64, generator=torch.Generator().manual_seed(2))


def without_removed(groups, widths):
    """The wide network, its removed channels held at zero wherever a weight reads them: what narrower means."""
    kept, network = groups.kept(widths), groups.network
    state = {name: value.detach().clone() for name, value in network.state_dict().items()}
    for path, slots in groups.followed.slots.items():
        if slots.into is None:
            continue
        module, into = network.get_submodule(path), kept[groups.names[slots.into]]
        weight = state[f"{path}.weight"]
        if getattr(module, "groups", 1) == 1:
            weight[:, ~into] = 0
    return state


@pytest.mark.parametrize("name", NETWORKS)
def test_nothing_removed_is_the_network_itself(name):
    groups = groups_of(name)

    assert torch.equal(narrow(groups, {})(frames_for(name)), groups.network(frames_for(name)))
    assert torch.equal(narrow(groups, groups.whole())(frames_for(name)), groups.network(frames_for(name)))


@pytest.mark.parametrize("name", ["cifar resnet", "wide resnet", "bottlenecks", "depthwise", "own norm"])
@settings(max_examples=6)
@given(data=st.data())
def test_a_narrow_network_answers_as_the_wide_one_that_does_not_read_what_was_removed(name, data):
    groups = groups_of(name)
    widths = {each: data.draw(st.integers(1, group.size)) for each, group in groups.groups.items()}
    expected = torch.func.functional_call(
        groups.network, without_removed(groups, widths), frames_for(name), tie_weights=False
    )

    found = narrow(groups, widths)(frames_for(name))

    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


@settings(max_examples=10)
@given(data=st.data())
def test_ties_of_grouped_convolutions_shuffles_and_halves_are_kept(data):
    groups = groups_of("own")
    widths = {each: data.draw(st.integers(1, group.size)) for each, group in groups.groups.items()}
    network = narrow(groups, widths)

    assert network(frames_for("own")).shape == (2, 5)
    assert network.grouped.groups == 4
    assert network.grouped.weight.shape[0] == 4 * (widths["grouped"])
    assert network.depthwise.groups == network.stem.out_channels == network.depthwise.out_channels // 2
    assert isinstance(network.norm4, nn.GroupNorm) and network.norm4.num_channels == network.mixed.out_channels


def test_the_groups_of_a_cifar_resnet_are_what_each_stage_adds_and_what_a_block_has_inside():
    groups = groups_of("cifar resnet").groups

    sizes = {name: group.size for name, group in groups.items()}
    assert sizes == {
        "conv1": 16,
        "layer1.0.conv1": 16,
        "layer2.0.conv1": 32,
        "layer2.0.conv2": 16,
        "layer3.0.conv1": 64,
        "layer3.0.conv2": 32,
    }


def test_a_zero_padded_shortcut_meets_the_channels_it_met_before():
    """By hand: a stage of 4 channels into one of 8, two zeros before and two behind."""

    class Padded(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two, self.last = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 8, 1), nn.Linear(8, 2)

        def forward(self, x):
            x = self.one(x)
            return self.last((self.two(x) + F.pad(x, (0, 0, 0, 0, 2, 2))).mean((2, 3)))

    wide = Padded().double()
    groups = find_groups(wide, torch.zeros(1, 3, 4, 4, dtype=torch.float64))
    assert {name: group.size for name, group in groups.groups.items()} == {"one": 4, "two": 4}
    frames = torch.rand(2, 3, 4, 4, dtype=torch.float64)

    found = narrow(groups, {"one": 3, "two": 1})(frames)

    x = wide.one(frames)[:, :3]  # the first three of `one`
    kept = [0, 2, 3, 4]  # of `two`: the first one of its own, and those that the shortcut meets
    y = torch.einsum("oi,nihw->nohw", wide.two.weight[kept, :3, 0, 0], x) + wide.two.bias[kept].view(1, -1, 1, 1)
    y[:, 1:] += x
    torch.testing.assert_close(found, F.linear(y.mean((2, 3)), wide.last.weight[:, kept], wide.last.bias))


def test_the_wide_network_stays_as_it_is():
    groups = groups_of("wide resnet")
    before = {name: value.clone() for name, value in groups.network.state_dict().items()}

    small = narrow(groups, dict.fromkeys(groups.groups, 1))
    with torch.no_grad():
        for value in small.parameters():
            value.zero_()

    assert all(torch.equal(value, before[name]) for name, value in groups.network.state_dict().items())


@pytest.mark.parametrize("name", ["cifar resnet", "wide resnet", "depthwise"])
def test_a_narrow_network_can_be_cut_into_parts(name):
    groups = groups_of(name)
    small = narrow(groups, {each: max(1, group.size // 2) for each, group in groups.groups.items()})

    pieces = partition(small, frames_for(name)[:1], 3)

    x = pieces.stem(frames_for(name))
    for part in pieces.parts:
        x = part.module(x)
    torch.testing.assert_close(pieces.head(x), small(frames_for(name)))


class Attention(nn.Module):
    """Mixes channels by a softmax over them."""

    def __init__(self):
        super().__init__()
        self.mixed, self.free, self.last = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 6, 1), nn.Linear(6, 2)

    def forward(self, x):
        return self.last(self.free(F.softmax(self.mixed(x), 1)).mean((2, 3)))


def test_channels_of_what_is_not_understood_stay_and_the_node_is_named():
    groups = find_groups(Attention(), torch.zeros(1, 3, 4, 4))

    assert list(groups.groups) == ["free"]
    assert groups.notes == ("the channels of mixed stay whole because of node 'softmax' (softmax)",)


def test_a_network_of_which_nothing_can_be_removed_is_refused_by_name():
    class Mixing(nn.Module):
        def __init__(self):
            super().__init__()
            self.mixed, self.last = nn.Conv2d(3, 8, 1), nn.Linear(8, 2)

        def forward(self, x):
            return self.last(F.softmax(self.mixed(x), 1).mean((2, 3)))

    with pytest.raises(NetworkError, match=r"Mixing cannot be made narrower: .*mixed.*node 'softmax'"):
        find_groups(Mixing(), torch.zeros(1, 3, 4, 4))
    with pytest.raises(NetworkError, match="no convolution or linear layer feeds another"):
        find_groups(nn.Sequential(nn.Conv2d(3, 4, 4), nn.Flatten()), torch.zeros(1, 3, 4, 4))


def test_widths_that_leave_no_channel_or_name_no_group_are_refused():
    groups = groups_of("wide resnet")

    with pytest.raises(UsageError, match=r"width 0 of conv1: a whole number from 1 to 16 channels"):
        narrow(groups, {"conv1": 0})
    with pytest.raises(UsageError, match="from 1 to 16"):
        narrow(groups, {"conv1": 17})
    with pytest.raises(UsageError, match="'conv9' is no channel group"):
        narrow(groups, {"conv9": 1})
