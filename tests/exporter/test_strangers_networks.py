"""Networks as strangers write them: each becomes a bundle that answers as the network does, or one clear sentence."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ecotta_rt.errors import NetworkError
from ecotta_rt.exporter.export import build_graph
from ecotta_rt.exporter.request import GraphRequest
from ecotta_rt.method.attach import attach
from ecotta_rt.method.cut.partition import partition
from ecotta_rt.method.state import flatten, initial_state
from ecotta_rt.method.step import Step
from ecotta_rt.options import StepOptions

CLASSES = 5


def torch_assert(condition):
    torch._assert(condition, "expected 4D input")


class BatchNormAct2d(nn.BatchNorm2d):
    """Norm, dropout and activation in one module, with a forward of its own, as timm has it."""

    def __init__(self, num_features, eps=1e-5, momentum=0.1, act_layer=nn.SiLU, drop_layer=None):
        super().__init__(num_features, eps=eps, momentum=momentum)
        self.drop = drop_layer() if drop_layer is not None else nn.Identity()
        self.act = act_layer(inplace=True) if act_layer is not None else nn.Identity()

    def forward(self, x):
        torch_assert(x.ndim == 4)
        factor = 0.0 if self.momentum is None else self.momentum
        if self.training and self.track_running_stats and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
        batch = self.training or (self.running_mean is None and self.running_var is None)
        x = F.batch_norm(
            x,
            self.running_mean if not self.training or self.track_running_stats else None,
            self.running_var if not self.training or self.track_running_stats else None,
            self.weight,
            self.bias,
            batch,
            factor,
            self.eps,
        )
        return self.act(self.drop(x))


class OwnInit(nn.BatchNorm2d):
    """A subclass with an `__init__` of its own and no forward."""

    def __init__(self, channels):
        super().__init__(channels, eps=1e-3)
        nn.init.uniform_(self.weight)


class Stubborn(OwnInit):
    """Never leaves evaluation mode."""

    def train(self, mode=True):
        return super().train(False)


def conv_bn(inputs, outputs, kernel=3, stride=1, groups=1, act=nn.ReLU, norm=nn.BatchNorm2d):
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, norm(outputs), *([act()] if act else []))


class BasicBlock(nn.Module):
    def __init__(self, inputs, outputs, stride, norm):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1, self.bn2 = norm(outputs), norm(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        changes = stride != 1 or inputs != outputs
        self.downsample = conv_bn(inputs, outputs, 1, stride, act=None, norm=norm) if changes else None

    def forward(self, x):
        identity = x if self.downsample is None else self.downsample(x)
        out = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        out += identity
        return self.relu(out)


class ResNet18(nn.Module):
    """As torchvision's, narrow."""

    def __init__(self, norm=nn.BatchNorm2d, channels=3, last=None):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 8, 7, 2, 3, bias=False)
        self.bn1, self.relu, self.maxpool = norm(8), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1)
        stages = [(8, 8, 1), (8, 12, 2), (12, 16, 2), (16, 24, 2)]
        self.layers = nn.Sequential(
            *(nn.Sequential(BasicBlock(i, o, s, norm), BasicBlock(o, o, 1, norm)) for i, o, s in stages)
        )
        self.avgpool, self.fc, self.last = nn.AdaptiveAvgPool2d(1), nn.Linear(24, CLASSES), last or nn.Identity()

    def forward(self, x):
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        return self.last(self.fc(torch.flatten(self.avgpool(self.layers(x)), 1)))


class SqueezeExcite(nn.Module):
    def __init__(self, channels, gate):
        super().__init__()
        self.reduce, self.expand, self.gate = nn.Conv2d(channels, 4, 1), nn.Conv2d(4, channels, 1), gate()

    def forward(self, x):
        return x * self.gate(self.expand(F.relu(self.reduce(x.mean((2, 3), keepdim=True)))))


class MobileBlock(nn.Module):
    def __init__(self, inputs, outputs, kernel, stride, act, gate=None, norm=nn.BatchNorm2d):
        super().__init__()
        wide = 3 * inputs
        layers = [conv_bn(inputs, wide, 1, act=act, norm=norm)]
        layers += [conv_bn(wide, wide, kernel, stride, wide, act=act, norm=norm)]
        layers += [SqueezeExcite(wide, gate)] if gate else []
        self.block = nn.Sequential(*layers, conv_bn(wide, outputs, 1, act=None))
        self.skips = stride == 1 and inputs == outputs

    def forward(self, x):
        return x + self.block(x) if self.skips else self.block(x)


class Mobile(nn.Module):
    """MobileNet v2 and v3, and EfficientNet as timm builds it, by their settings."""

    def __init__(self, act, gate=None, norm=nn.BatchNorm2d, stem_act=None):
        super().__init__()
        settings = [(8, 8, 3, 1), (8, 12, 5, 2), (12, 12, 3, 1), (12, 16, 3, 2), (16, 16, 5, 1)]
        self.stem = conv_bn(3, 8, 3, 2, act=stem_act or act, norm=norm)
        self.features = nn.Sequential(*(MobileBlock(*s, act, gate, norm) for s in settings))
        self.last = conv_bn(16, 24, 1, act=act, norm=norm)
        self.classifier = nn.Sequential(nn.Linear(24, 16), act() if act else nn.ReLU(), nn.Dropout(0.2))
        self.fc = nn.Linear(16, CLASSES)

    def forward(self, x):
        return self.fc(self.classifier(self.last(self.features(self.stem(x))).mean([2, 3])))


class Vgg(nn.Module):
    """Batch norms of rows in the head."""

    def __init__(self):
        super().__init__()
        widths = [(3, 8), (8, 8), (8, 12), (12, 12)]
        layers = [layer for i, pair in enumerate(widths) for layer in (*conv_bn(*pair), *[nn.MaxPool2d(2)] * (i % 2))]
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(
            nn.Flatten(),
            nn.Linear(12 * 64, 16),
            nn.BatchNorm1d(16),
            nn.ReLU(True),
            nn.Dropout(),
            nn.Linear(16, CLASSES),
        )

    def forward(self, x):
        return self.classifier(self.features(x))


class Functional(nn.Module):
    """Calls F.batch_norm with buffers of its own."""

    def __init__(self, channels=8, depth=4):
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(3 if i == 0 else channels, channels, 3, padding=1) for i in range(depth))
        for i in range(depth):
            self.register_buffer(f"mean{i}", torch.randn(channels) * 0.1)
            self.register_buffer(f"var{i}", torch.rand(channels) + 0.5)
            self.register_parameter(f"gamma{i}", nn.Parameter(torch.rand(channels) + 0.5))
            self.register_parameter(f"beta{i}", nn.Parameter(torch.randn(channels) * 0.1))
        self.fc = nn.Linear(channels, CLASSES)

    def forward(self, x):
        for i, conv in enumerate(self.convs):
            moments = getattr(self, f"mean{i}"), getattr(self, f"var{i}")
            affine = getattr(self, f"gamma{i}"), getattr(self, f"beta{i}")
            x = F.relu(F.batch_norm(conv(x), *moments, *affine, training=self.training, eps=1e-3))
        return self.fc(x.mean((2, 3)))


class LeNet(nn.Module):
    """Grey, and without padding in its first layer."""

    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(1, 6, 5), nn.BatchNorm2d(6)
        self.conv2, self.bn2 = nn.Conv2d(6, 12, 3, padding=1), nn.BatchNorm2d(12)
        self.conv3, self.bn3 = nn.Conv2d(12, 12, 3, padding=1), nn.BatchNorm2d(12)
        self.fc1, self.fc2 = nn.Linear(12 * 49, 24), nn.Linear(24, CLASSES)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 2)
        x = F.relu(self.bn2(self.conv2(x)))
        x = F.max_pool2d(F.relu(self.bn3(self.conv3(x))), 2)
        return self.fc2(F.relu(self.fc1(x.reshape(x.shape[0], -1))))


class Weighted(nn.Module):
    """Weight norm of both kinds, spectral norm."""

    def __init__(self):
        super().__init__()
        wrap = nn.utils.parametrizations
        self.convs = nn.Sequential(
            wrap.weight_norm(nn.Conv2d(3, 8, 3, padding=1)),
            nn.ReLU(),
            old_weight_norm(nn.Conv2d(8, 8, 3, padding=1)),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            wrap.spectral_norm(nn.Conv2d(8, 8, 3, padding=1)),
            nn.ReLU(),
            nn.Conv2d(8, 8, 3, padding=1),
            nn.ReLU(),
        )
        self.fc = wrap.weight_norm(nn.Linear(8, CLASSES))

    def forward(self, x):
        return self.fc(self.convs(x).mean((2, 3)))


def old_weight_norm(module):
    with pytest.warns(FutureWarning, match="weight_norm"):
        return nn.utils.weight_norm(module)


class Squeezing(ResNet18):
    def forward(self, x):
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        return self.fc(self.avgpool(self.layers(x)).squeeze())


class DenseLayer(nn.Module):
    def __init__(self, channels, growth=6):
        super().__init__()
        self.norm1, self.conv1 = nn.BatchNorm2d(channels), nn.Conv2d(channels, 12, 1, bias=False)
        self.norm2, self.conv2 = nn.BatchNorm2d(12), nn.Conv2d(12, growth, 3, padding=1, bias=False)

    def forward(self, features):
        joined = torch.cat(features, 1)
        return self.conv2(F.relu(self.norm2(self.conv1(F.relu(self.norm1(joined))))))


class DenseBlock(nn.ModuleDict):
    def __init__(self, layers, channels):
        super().__init__({f"layer{i}": DenseLayer(channels + 6 * i) for i in range(layers)})

    def forward(self, x):
        features = [x]
        for layer in self.values():
            features.append(layer(features))
        return torch.cat(features, 1)


class DenseNet(nn.Module):
    """As torchvision's: lists of features, transitions that pool."""

    def __init__(self):
        super().__init__()
        self.stem = conv_bn(3, 8, 3, 2)
        self.block1, self.block2 = DenseBlock(2, 8), DenseBlock(2, 10)
        self.transition = nn.Sequential(nn.BatchNorm2d(20), nn.ReLU(), nn.Conv2d(20, 10, 1), nn.AvgPool2d(2))
        self.norm, self.classifier = nn.BatchNorm2d(22), nn.Linear(22, CLASSES)

    def forward(self, x):
        x = self.norm(self.block2(self.transition(self.block1(self.stem(x)))))
        return self.classifier(torch.flatten(F.adaptive_avg_pool2d(F.relu(x), (1, 1)), 1))


class Standardised(nn.Conv2d):
    """Its weight is standardised by batch norm at each call, as timm's StdConv2d does."""

    def forward(self, x):
        flat = self.weight.reshape(1, self.out_channels, -1)
        weight = F.batch_norm(flat, None, None, training=True, momentum=0.0, eps=1e-6).reshape_as(self.weight)
        return F.conv2d(x, weight, self.bias, self.stride, self.padding)


class WeightStandardised(nn.Module):
    def __init__(self):
        super().__init__()
        widths = [(3, 8), (8, 8), (8, 12), (12, 12)]
        self.body = nn.Sequential(
            *(nn.Sequential(Standardised(*pair, 3, padding=1), nn.GroupNorm(2, pair[1]), nn.ReLU()) for pair in widths)
        )
        self.fc = nn.Linear(12, CLASSES)

    def forward(self, x):
        return self.fc(self.body(x).mean((2, 3)))


def sync(channels):
    return nn.SyncBatchNorm(channels)


def efficientnet():
    return Mobile(None, nn.Sigmoid, norm=BatchNormAct2d)


BUNDLES = {
    "resnet-18": ResNet18,
    "resnet-18, grey": lambda: ResNet18(channels=1),
    "resnet-18, sync": lambda: ResNet18(norm=sync),
    "resnet-18, subclass": lambda: ResNet18(norm=OwnInit),
    "resnet-18, stubborn": lambda: ResNet18(norm=Stubborn),
    "resnet-18, softmax": lambda: ResNet18(last=nn.Softmax(dim=1)),
    "resnet-18, log-softmax": lambda: ResNet18(last=nn.LogSoftmax(dim=1)),
    "resnet-18, sigmoid": lambda: ResNet18(last=nn.Sequential(nn.Sigmoid(), nn.Flatten())),
    "mobilenet v2": lambda: Mobile(nn.ReLU6),
    "mobilenet v3": lambda: Mobile(nn.Hardswish, nn.Hardsigmoid),
    "efficientnet of timm": efficientnet,
    "vgg": Vgg,
    "functional": Functional,
    "lenet, grey": LeNet,
    "weight norm": Weighted,
    "squeeze": Squeezing,
    "densenet": DenseNet,
    "weights standardised": WeightStandardised,
    "data parallel": lambda: nn.DataParallel(ResNet18()),
}


def frames_for(name, count=3):
    shape = (1 if "grey" in name else 3, 32, 32)
    return torch.rand(count, *shape, generator=torch.Generator().manual_seed(1))


def unsettled(network):
    """Norms away from their neutral values."""
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            nn.init.uniform_(module.weight, 0.7, 1.3)
            nn.init.normal_(module.bias, 0, 0.2)
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.7, 1.5)
    return network.eval()


def built(name):
    torch.manual_seed(0)
    return unsettled(BUNDLES[name]())


def plainly(name):
    """The network out of its wrapper and without a last activation: what its pieces are compared with."""
    network = built(name)
    network = network.module if isinstance(network, nn.DataParallel) else network
    if isinstance(network, ResNet18):
        network.last = nn.Identity()
    return network


NORMS = {"resnet-18": 20, "squeeze": 20, "data parallel": 20, "mobilenet": 17, "efficientnet": 17}
NORMS |= {"vgg": 5, "functional": 4, "lenet": 3, "weight norm": 1, "densenet": 11, "weights standardised": 0}


def _slow(name):
    return pytest.param(name, marks=pytest.mark.slow)


@pytest.mark.parametrize("name", BUNDLES)
def test_its_pieces_answer_as_the_network_does_and_all_its_norms_adapt(name):
    frames = frames_for(name)
    adaptable = attach(partition(built(name), frames[:1], 2), kernel=1)

    for piece in adaptable.frozen_pieces():
        piece.eval()
    features = adaptable.stem(frames)
    for part in adaptable.parts:
        features = part(features)

    with torch.no_grad():
        expected = plainly(name)(frames)
    assert torch.equal(adaptable.head(features), expected)
    wanted = next(count for start, count in NORMS.items() if name.startswith(start))
    assert len(adaptable.norms()) == wanted + 2 * len(adaptable.meta_groups)
    assert all(type(norm) is nn.BatchNorm2d for norm in adaptable.norms().values())


@pytest.mark.parametrize("name", ["resnet-18", "squeeze", "vgg"])
def test_a_single_frame_is_answered_as_among_others(name):
    """A bare squeeze() would take the batch axis of one frame away."""
    frames = frames_for(name)
    pieces = partition(built(name), frames[:1], 2)

    def answer(x):
        x = pieces.stem(x)
        for part in pieces.parts:
            x = part.module(x)
        return pieces.head(x)

    assert answer(frames[:1]).shape == (1, CLASSES)
    torch.testing.assert_close(answer(frames[:1]), answer(frames)[:1])


@pytest.mark.parametrize("kind", ["softmax", "log-softmax", "sigmoid"])
def test_a_last_activation_is_taken_off_and_named(kind):
    pieces = partition(built(f"resnet-18, {kind}"), torch.rand(1, 3, 32, 32), 2)

    (note,) = pieces.notes
    assert note.startswith("the network ends in a ")
    assert note.endswith(": taken off, its logits are used")
    assert kind.replace("-", "") in note.lower()


def test_a_sigmoid_inside_a_network_stays():
    assert partition(built("efficientnet of timm"), torch.rand(1, 3, 32, 32), 2).notes == ()


def exported(name, kind, open_session, parts=2):
    """Outputs by name of the network's graph in onnxruntime and of the step in torch."""
    adaptable = attach(partition(built(name), frames_for(name, 1), parts), kernel=1)
    options, state = StepOptions(normalisation="running"), initial_state(adaptable)
    session = open_session(build_graph(adaptable, state, options, GraphRequest(kind, kind, 1)))
    vectors = {"parameters": state.parameters, "momentum": state.momentum}
    feeds = {key: flatten(value, value).numpy() for key, value in vectors.items()}
    feeds["statistics"] = torch.cat([v for pair in state.statistics.values() for v in pair]).numpy()
    frames = frames_for(name, 1)
    feeds = {i.name: feeds.get(i.name, frames.numpy()) for i in session.get_inputs()}
    found = dict(zip([o.name for o in session.get_outputs()], session.run(None, feeds), strict=True))
    step = Step(adaptable, options)
    return found, step.observe(state, frames) if kind == "observe" else step(state, frames)


@pytest.mark.parametrize("name", [_slow("efficientnet of timm"), "vgg", "functional", "weight norm"])
def test_its_graph_answers_and_observes_its_norms_as_torch_does(name, open_session, distance):
    found, (logits, seen) = exported(name, "observe", open_session)

    assert distance(found["logits"], logits.numpy()) < 1e-5
    assert distance(found["seen"], seen.numpy()) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in BUNDLES if name != "weights standardised"])
def test_its_step_learns_as_torch_does(name, open_session, distance):
    found, outcome = exported(name, "step", open_session)

    after = outcome.state
    assert distance(found["logits"], outcome.logits.numpy()) < 1e-5
    assert distance(found["next_parameters"], flatten(after.parameters, after.parameters).numpy()) < 1e-5


# What cannot be taken is said in a sentence


class FrozenBatchNorm2d(nn.Module):
    """As torchvision's and detectron2's: a norm in four buffers, written out."""

    def __init__(self, channels):
        super().__init__()
        for name, value in {"weight": 1.0, "bias": 0.0, "running_mean": 0.0, "running_var": 1.0}.items():
            self.register_buffer(name, torch.full((channels,), value))

    def forward(self, x):
        scale = self.weight * (self.running_var + 1e-5).rsqrt()
        shift = self.bias - self.running_mean * scale
        return x * scale.reshape(1, -1, 1, 1) + shift.reshape(1, -1, 1, 1)


class Called(nn.Module):
    """Some norm as a function of the feature map."""

    def __init__(self, norm):
        super().__init__()
        self.norm = norm
        self.register_buffer("moving", torch.zeros(2, 8))
        self.scale = nn.Parameter(torch.ones(8))

    def forward(self, x):
        return self.norm(self, x)


class OwnNorm(nn.Module):
    """Statistics under other names, in arithmetic."""

    def __init__(self, channels):
        super().__init__()
        self.register_buffer("m", torch.zeros(channels))
        self.register_buffer("s", torch.ones(channels))

    def forward(self, x):
        if self.training:
            self.m.lerp_(x.mean((0, 2, 3)), 0.1)
            self.s = self.s.lerp(x.std((0, 2, 3)), 0.1)
        return (x - self.m.reshape(-1, 1, 1)) / self.s.reshape(-1, 1, 1)


def with_norm(norm):
    return lambda: ResNet18(norm=lambda channels: norm if channels == 8 else nn.BatchNorm2d(channels))


REFUSED = {
    "frozen norms": (
        lambda: ResNet18(norm=FrozenBatchNorm2d),
        r"running_(var|mean) is read by node .*, not by a batch norm: .* Replace this FrozenBatchNorm2d by",
    ),
    "norms of one's own": (
        lambda: ResNet18(norm=OwnNorm),
        r"bn1\.m follows the frames in training and belongs to no batch norm",
    ),
    "instance norms with statistics": (
        lambda: ResNet18(norm=lambda channels: nn.InstanceNorm2d(channels, track_running_stats=True)),
        r"bn1: a InstanceNorm2d with running statistics is a constant",
    ),
    "subclasses without statistics": (
        lambda: ResNet18(norm=lambda channels: nn.SyncBatchNorm(channels, track_running_stats=False)),
        r"bn1: this SyncBatchNorm has no running statistics",
    ),
    "a function without statistics": (
        lambda: ResNet18(norm=lambda channels: Called(lambda m, x: F.batch_norm(x, None, None, training=True))),
        r"batch_norm in bn1\) has no running statistics",
    ),
    "statistics of the batch always": (
        with_norm(Called(lambda m, x: F.batch_norm(x, *m.moving, training=True))),
        r"uses the statistics of the batch in evaluation mode, too: write training=self\.training",
    ),
    "a computed scale": (
        with_norm(Called(lambda m, x: F.batch_norm(x, m.scale, m.scale, weight=m.scale.exp()))),
        r"weight of node .* is computed, not a parameter or buffer",
    ),
    "lazy modules": (
        lambda: nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.LazyLinear(5)),
        r"^2 is lazy and has no shape yet: call the network once on frames",
    ),
    "torchscript": (
        lambda: torch.jit.trace(ResNet18().eval(), torch.rand(2, 3, 32, 32)),
        r"the network is a TorchScript module, .*: give the module it was scripted or traced from",
    ),
}


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning", "ignore:Lazy modules:UserWarning")
@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_taken_is_refused_in_one_line(name):
    build, message = REFUSED[name]

    with pytest.raises(NetworkError, match=message) as caught:
        partition(build().eval(), torch.rand(1, 3, 32, 32), 2)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400
