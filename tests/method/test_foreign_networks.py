"""Networks that somebody else wrote: what torch.fx can trace is cut at its single-tensor borders, the rest is named."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ecotta_rt.errors import NetworkError
from ecotta_rt.method.cut.partition import partition


def conv_bn(in_channels, out_channels, *, kernel=3, stride=1, groups=1, activation=nn.ReLU):
    padding = kernel // 2
    conv = nn.Conv2d(in_channels, out_channels, kernel, stride=stride, padding=padding, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out_channels), *([activation()] if activation else []))


class Gate(nn.Module):
    """Squeeze and excite."""

    def __init__(self, channels):
        super().__init__()
        self.squeeze = nn.Conv2d(channels, 2, 1)
        self.excite = nn.Conv2d(2, channels, 1)

    def forward(self, x):
        pooled = F.relu(self.squeeze(F.adaptive_avg_pool2d(x, 1)))
        return x * torch.sigmoid(self.excite(pooled))


class InvertedResidual(nn.Module):
    def __init__(self, in_channels, out_channels, stride, activation, gated):
        super().__init__()
        wide = 3 * in_channels
        self.expand = conv_bn(in_channels, wide, kernel=1, activation=activation)
        self.depthwise = conv_bn(wide, wide, stride=stride, groups=wide, activation=activation)
        self.gate = Gate(wide) if gated else nn.Identity()
        self.project = conv_bn(wide, out_channels, kernel=1, activation=None)
        self.skips = stride == 1 and in_channels == out_channels

    def forward(self, x):
        out = self.project(self.gate(self.depthwise(self.expand(x))))
        return x + out if self.skips else out


class Mobile(nn.Module):
    def __init__(self, activation=nn.ReLU6, gated=False):
        super().__init__()
        self.stem = conv_bn(3, 8, stride=2, activation=activation)
        settings = [(8, 8, 1), (8, 12, 2), (12, 12, 1), (12, 12, 1), (12, 16, 2), (16, 16, 1), (16, 16, 1)]
        self.features = nn.Sequential(*(InvertedResidual(*setting, activation, gated) for setting in settings))
        self.last = conv_bn(16, 32, kernel=1, activation=activation)
        self.classifier = nn.Sequential(nn.Dropout(0.0), nn.Linear(32, 5))

    def forward(self, x):
        x = self.last(self.features(self.stem(x)))
        return self.classifier(x.mean([2, 3]))


class Inception(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.narrow = conv_bn(channels, 4, kernel=1)
        self.wide = nn.Sequential(conv_bn(channels, 4, kernel=1), conv_bn(4, 8))
        self.pooled = nn.Sequential(nn.MaxPool2d(3, stride=1, padding=1), conv_bn(channels, 4, kernel=1))

    def forward(self, x):
        return torch.cat([self.narrow(x), self.wide(x), self.pooled(x)], dim=1)


class DenseLayer(nn.Module):
    def __init__(self, channels, growth):
        super().__init__()
        self.norm = nn.BatchNorm2d(channels)
        self.conv = nn.Conv2d(channels, growth, 3, padding=1, bias=False)

    def forward(self, x):
        return torch.cat((x, self.conv(F.relu(self.norm(x)))), 1)


class Concatenating(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.inception1 = Inception(8)
        self.inception2 = Inception(16)
        self.dense = nn.Sequential(DenseLayer(16, 4), DenseLayer(20, 4), DenseLayer(24, 4))
        self.norm = nn.BatchNorm2d(28)
        self.fc = nn.Linear(28, 5)

    def forward(self, x):
        batch = x.size(0)
        x = F.max_pool2d(F.relu(self.conv(x)), 2)
        x = F.max_pool2d(self.inception2(self.inception1(x)), 2)
        x = F.relu(self.norm(self.dense(x)))
        return self.fc(F.adaptive_avg_pool2d(x, (1, 1)).view(batch, -1))


class InPlaceBlock(nn.Module):
    def __init__(self, in_channels, out_channels, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU(inplace=True)  # called twice
        changes = stride != 1 or in_channels != out_channels
        self.shortcut = nn.Conv2d(in_channels, out_channels, 1, stride=stride) if changes else None

    def forward(self, x):
        identity = x if self.shortcut is None else self.shortcut(x)
        out = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        out += identity
        return self.relu(out)


class InPlace(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.blocks = nn.ModuleList([InPlaceBlock(8, 8, 1), InPlaceBlock(8, 16, 2), InPlaceBlock(16, 16, 1)])
        self.last = nn.Conv2d(16, 16, 3, padding=1)
        self.fc = nn.Linear(16, 5)

    def forward(self, x):
        x = F.relu(self.conv(x), inplace=True)
        for block in self.blocks:
            x = block(x)
        y = self.last(x)
        y.add_(x)
        x = y.relu_()
        return self.fc(torch.flatten(F.adaptive_avg_pool2d(x, 1), 1))


class Plain(nn.Module):
    """VGG without batch norm; the batch size is read off its shape."""

    def __init__(self):
        super().__init__()
        widths = [(3, 8), (8, 8), (8, 16), (16, 16), (16, 16)]
        self.convs = nn.ModuleList(nn.Conv2d(*pair, 3, padding=1) for pair in widths)
        self.fc = nn.Linear(16 * 4 * 4, 5)

    def forward(self, x):
        batch, _channels, _height, _width = x.shape
        for index, conv in enumerate(self.convs):
            x = F.relu(conv(x))
            if index in (1, 3, 4):
                x = F.max_pool2d(x, 2)
        return self.fc(x.view(batch, -1))


class PreActivationBlock(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.norm = nn.BatchNorm2d(channels)
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x):
        return x + self.conv(F.relu(self.norm(x)))


class PreActivation(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.body = nn.Sequential(*(PreActivationBlock(8) for _ in range(4)))
        self.norm = nn.BatchNorm2d(8)
        self.fc = nn.Linear(8, 5)

    def forward(self, x):
        return self.fc(F.relu(self.norm(self.body(self.conv(x)))).mean((2, 3)))


class FunctionalConvolution(nn.Conv2d):
    """A convolution of another library: padded by hand, its weight fetched as an attribute."""

    def forward(self, x):
        return F.conv2d(F.pad(x, (1, 1, 1, 1)), self.weight, self.bias)


class Subclassed(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.register_buffer("shift", torch.full((1, 8, 1, 1), 0.1))
        self.first = FunctionalConvolution(3, 8, 3)
        self.second = FunctionalConvolution(8, 8, 3)
        self.third = FunctionalConvolution(8, 8, 3)
        self.fc = nn.Linear(8, 5)

    def forward(self, x):
        x = F.relu(self.first(x)) * self.scale + self.shift
        x = F.relu(self.second(x)) * self.scale + self.shift
        x = F.relu(self.third(x)) * self.scale + self.shift
        return self.fc(x.mean((2, 3)))


class Attention(nn.Module):
    """Two heads over the pixels; for a while the batch is not the first axis."""

    def __init__(self, channels):
        super().__init__()
        self.qkv = nn.Linear(channels, 3 * channels)

    def forward(self, x):
        batch, channels, height, width = x.shape
        rows = self.qkv(x.flatten(2).transpose(1, 2))
        q, k, v = rows.reshape(batch, height * width, 3, 2, channels // 2).permute(2, 0, 3, 1, 4).unbind(0)
        mixed = F.softmax(q @ k.transpose(-2, -1), dim=-1) @ v
        return x + mixed.transpose(1, 2).reshape(batch, height * width, channels).transpose(1, 2).view_as(x)


class Hybrid(nn.Module):
    """Convolutions with attention between, and a norm whose activation follows after an empty slot."""

    def __init__(self):
        super().__init__()
        widths = [(3, 8), (8, 8), (8, 16), (16, 16)]
        self.stages = nn.Sequential(
            *(nn.Sequential(conv_bn(*pair, stride=2, activation=None), nn.Identity(), nn.ReLU()) for pair in widths)
        )
        self.attention = Attention(16)
        self.last = conv_bn(16, 16)
        self.fc = nn.Linear(16, 5)

    def forward(self, x):
        return self.fc(self.last(self.attention(self.stages(x))).mean((2, 3)))


class UNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.enter = conv_bn(3, 8)
        self.down = conv_bn(8, 16, stride=2)
        self.middle = conv_bn(16, 16)
        self.up = nn.ConvTranspose2d(16, 8, 2, stride=2)
        self.leave = conv_bn(16, 8)
        self.fc = nn.Linear(8, 5)

    def forward(self, x):
        skip = self.enter(x)
        deep = self.up(self.middle(self.down(skip)))
        return self.fc(self.leave(torch.cat([skip, deep], 1)).mean((2, 3)))


CUTTABLE = {
    "mobile": (lambda: Mobile(), 4),
    "mobile, hard swish, gates": (lambda: Mobile(nn.Hardswish, gated=True), 5),
    "concatenating": (lambda: Concatenating(), 4),
    "in place": (lambda: InPlace(), 4),
    "plain": (lambda: Plain(), 4),
    "pre-activation": (lambda: PreActivation(), 4),
    "subclassed": (lambda: Subclassed(), 2),
    "hybrid": (lambda: Hybrid(), 4),
}


def cut(build, parts):
    torch.manual_seed(0)
    network, frames = build(), torch.rand(4, 3, 32, 32)
    return network, frames, partition(network, frames, parts)


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("name", CUTTABLE)
def test_the_pieces_composed_are_the_network_bit_for_bit(name, training):
    network, frames, pieces = cut(*CUTTABLE[name])
    network.train(training)
    twin = copy.deepcopy(network)

    with torch.no_grad():
        features = pieces.stem(frames.clone())
        by_cell = features.clone()
        for part in pieces.parts:
            features = part.module(features)
        logits, expected = pieces.head(features), twin(frames.clone())
        moved = copy.deepcopy(network.state_dict())
        network.load_state_dict(twin.state_dict())
        for part in pieces.parts:
            for cell in part.cells:
                by_cell = cell(by_cell)

    assert torch.equal(logits, expected)
    assert all(torch.equal(value, moved[key]) for key, value in twin.state_dict().items())
    assert training or torch.equal(by_cell, features)


@pytest.mark.parametrize("name", CUTTABLE)
def test_pieces_take_any_number_of_frames(name):
    network, frames, pieces = cut(*CUTTABLE[name])
    network.eval()

    features = pieces.stem(frames[:1].clone())
    for part in pieces.parts:
        features = part.module(features)

    torch.testing.assert_close(pieces.head(features), network(frames[:1].clone()), rtol=0, atol=0)


@pytest.mark.parametrize("name", CUTTABLE)
def test_no_piece_overwrites_its_input(name):
    """The meta group beside a part reads the same feature map."""
    _, frames, pieces = cut(*CUTTABLE[name])

    features = pieces.stem(frames.clone())
    for part in pieces.parts:
        before = features.clone()
        after = part.module(features)
        assert torch.equal(features, before)
        features = after


def ends(pieces):
    return [name for part in pieces.parts for name in part.cell_names]


def test_a_residual_block_is_one_cell_and_ends_after_its_activation():
    _, _, pieces = cut(InPlace, 4)

    assert ends(pieces) == ["blocks.0.relu", "blocks.1.relu", "blocks.2.relu", "relu_"]


def test_a_pre_activation_block_keeps_its_norm():
    _, _, pieces = cut(PreActivation, 4)

    assert ends(pieces) == [f"add in body.{index}" for index in range(4)]
    assert [str(node.target) for node in pieces.head.graph.nodes][1] == "norm"


def test_convolution_norm_and_activation_stay_together():
    _, _, pieces = cut(Mobile, 4)

    assert all(
        not str(node.target).endswith(".0") for part in pieces.parts for node in part.module.graph.output_node().args
    )
    assert "features.1.expand.2" in ends(pieces)
    assert "features.1.project.1" in ends(pieces)
    assert not any(name.endswith((".expand.0", ".expand.1", ".depthwise.1")) for name in ends(pieces))


def test_an_empty_slot_does_not_part_a_norm_from_its_activation():
    _, _, pieces = cut(Hybrid, 4)

    assert ends(pieces) == ["stages.1.2", "stages.2.2", "add in attention", "last.2"]


def test_cuts_keep_out_of_the_widened_middle_of_a_block():
    _, _, pieces = cut(Mobile, 4)

    last_cells = [part.cell_names[-1] for part in pieces.parts]

    assert last_cells == ["add in features.0", "features.1.project.1", "add in features.2", "last.2"]
    assert [part.in_channels for part in pieces.parts] == [8, 8, 12, 12]


def test_pooling_joins_the_cell_before_it_and_the_last_pooling_the_head():
    _, _, pieces = cut(Plain, 4)

    assert [part.out_shape for part in pieces.parts] == [(8, 16, 16), (16, 16, 16), (16, 8, 8), (16, 8, 8)]
    assert [part.stride for part in pieces.parts] == [2, 1, 2, 1]


def test_each_concatenation_ends_a_cell():
    _, _, pieces = cut(Concatenating, 4)

    assert ends(pieces)[0] == "cat in inception1"
    assert ends(pieces)[1] == "max_pool2d_1"
    assert ends(pieces)[2:] == [f"cat in dense.{index}" for index in range(3)]


def test_weights_and_buffers_fetched_as_attributes_are_shared():
    network, _, pieces = cut(Subclassed, 2)

    names = {name for part in pieces.parts for name, _ in part.module.named_parameters()}

    assert names == {"scale", "second.weight", "second.bias", "third.weight", "third.bias"}
    assert pieces.parts[0].module.get_parameter("scale") is network.scale
    assert pieces.parts[0].macs == 8 * 8 * 9 * 32 * 32


def test_a_long_skip_leaves_few_cells_and_is_named():
    with pytest.raises(
        NetworkError,
        match=r"4 parts asked for, but UNet has 2 cells: cat, leave\.2\. .*'enter_2' \(enter\.2\) is kept over 8",
    ):
        cut(UNet, 4)


def test_a_network_bridged_from_end_to_end_is_refused_with_the_bridge():
    class Bridged(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Conv2d(3, 3, 3, padding=1)
            self.second = nn.Conv2d(3, 3, 3, padding=1)

        def forward(self, x):
            return (self.second(self.first(x)) + x).mean((2, 3))

    with pytest.raises(
        NetworkError, match=r"no place to cut this network: .*'x' \(x\) is kept over 3 of its 4 operations"
    ):
        cut(Bridged, 2)


def test_a_network_without_feature_maps_is_refused_with_their_shape():
    class Tokens(nn.Module):
        """A convolution that cuts patches, then linear layers on rows of them, as in a vision transformer."""

        def __init__(self):
            super().__init__()
            self.patches = nn.Conv2d(3, 8, 4, stride=4)
            self.layers = nn.Sequential(*(nn.Linear(8, 8) for _ in range(4)))

        def forward(self, x):
            return self.layers(self.patches(x).flatten(2).transpose(1, 2)).mean(1)

    with pytest.raises(NetworkError, match=r"from 'flatten' \(flatten\) on there are values of shape \[N, 8, 64\]"):
        cut(Tokens, 2)


def test_a_branch_on_values_is_named_with_its_line():
    class Branching(nn.Module):
        def forward(self, x):
            return x if x.mean() > 0.5 else x + 1

    class Owner(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 8, 3)
            self.branching = Branching()

        def forward(self, x):
            return self.branching(self.conv(x)).mean((2, 3))

    with pytest.raises(
        NetworkError, match=r'cannot trace branching \(Branching\), "return x if x\.mean\(\) > 0\.5'
    ) as caught:
        cut(Owner, 2)
    assert f"{__file__}:" in str(caught.value)


def test_a_fixed_batch_size_is_named():
    class Fixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 8, 3)

        def forward(self, x):
            return self.conv(x).view(2, -1)

    with pytest.raises(
        NetworkError, match=r"node 'view' \(view\) has shape \(2, 7200\) for 2 frames and \(2, 10800\) for 3"
    ):
        cut(Fixed, 1)


def test_frames_that_are_mixed_are_named():
    class Mixing(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 8, 3)

        def forward(self, x):
            return torch.cat([self.conv(x), self.conv(x)], 0)

    with pytest.raises(
        NetworkError, match=r"node 'cat' \(cat\) has shape \(4, .* for 2 frames and \(6, .*one row a frame"
    ):
        cut(Mixing, 1)


def test_a_part_without_a_whole_stride_is_named():
    class Unpadded(nn.Module):
        def __init__(self):
            super().__init__()
            self.convs = nn.Sequential(*(nn.Conv2d(width, 8, 5) for width in (3, 8, 8)))

        def forward(self, x):
            return self.convs(x).mean((2, 3))

    with pytest.raises(NetworkError, match=r"part1 \(convs\.1\) turns 28x28 into 24x24: no whole stride"):
        cut(Unpadded, 2)


def test_a_network_without_convolutions_is_refused():
    with pytest.raises(NetworkError, match="calls no convolution"):
        cut(lambda: nn.Sequential(nn.Flatten(), nn.Linear(3072, 5)), 2)


def test_a_network_with_several_outputs_is_refused():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 8, 3)

        def forward(self, x):
            return self.conv(x).mean((2, 3)), x

    with pytest.raises(NetworkError, match="returns tuple, not one tensor of logits"):
        cut(Two, 1)


def test_a_network_with_several_inputs_is_refused():
    class Two(nn.Module):
        def forward(self, x, y):
            return x + y

    with pytest.raises(NetworkError, match=r"Two\.forward takes 2 inputs \(x, y\)"):
        cut(Two, 1)
