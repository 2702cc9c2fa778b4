"""Networks unlike the wide residual one: whole exported steps against the torch step, from the same state."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ecotta_rt.exporter.export import build_graph, export
from ecotta_rt.exporter.request import ExportOptions, GraphRequest
from ecotta_rt.method.attach import attach
from ecotta_rt.method.cut.partition import partition
from ecotta_rt.method.state import StepState, flatten, initial_state, to_adapt_state
from ecotta_rt.method.step import Step
from ecotta_rt.method.torch_engine import TorchEngine
from ecotta_rt.options import StepOptions
from ecotta_rt.prepare.checkpoint import load_checkpoint
from ecotta_rt.prepare.networks import build_network
from ecotta_rt.runtime.engine import Runtime

SIDE, CLASSES = 32, 6


def conv_bn(in_channels, out_channels, kernel=3, *, stride=1, groups=1, activation=None):
    conv = nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out_channels), *([activation()] if activation else []))


class Classifier(nn.Module):
    def __init__(self, stem, features, channels):
        super().__init__()
        self.stem, self.features, self.fc = stem, features, nn.Linear(channels, CLASSES)

    def forward(self, frames):
        x = self.features(self.stem(frames))
        return self.fc(torch.flatten(F.adaptive_avg_pool2d(x, 1), 1))


class Bottleneck(nn.Module):
    def __init__(self, in_channels, width, stride):
        super().__init__()
        out_channels = 4 * width
        self.inner = nn.Sequential(
            conv_bn(in_channels, width, 1, activation=nn.ReLU),
            conv_bn(width, width, stride=stride, activation=nn.ReLU),
            conv_bn(width, out_channels, 1),
        )
        changes = stride != 1 or in_channels != out_channels
        self.shortcut = conv_bn(in_channels, out_channels, 1, stride=stride) if changes else nn.Identity()

    def forward(self, x):
        return F.relu(self.inner(x) + self.shortcut(x))


def bottlenecks():
    """As ResNet-50: a 7x7 stem with overlapping max pooling, 1x1 convolutions, projected shortcuts of stride 2."""
    stem = nn.Sequential(conv_bn(3, 8, 7, stride=2, activation=nn.ReLU), nn.MaxPool2d(3, 2, 1))
    blocks = [Bottleneck(8, 4, 1), Bottleneck(16, 4, 1), Bottleneck(16, 6, 2), Bottleneck(24, 6, 1)]
    return Classifier(stem, nn.Sequential(*blocks), 24)


class InvertedResidual(nn.Module):
    def __init__(self, in_channels, out_channels, kernel, stride, activation, gated):
        super().__init__()
        wide = 3 * in_channels
        self.expand = conv_bn(in_channels, wide, 1, activation=activation)
        self.depthwise = conv_bn(wide, wide, kernel, stride=stride, groups=wide, activation=activation)
        self.gate = Gate(wide) if gated else nn.Identity()
        self.project = conv_bn(wide, out_channels, 1)
        self.skips = stride == 1 and in_channels == out_channels

    def forward(self, x):
        out = self.project(self.gate(self.depthwise(self.expand(x))))
        return x + out if self.skips else out


class Gate(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.squeeze, self.excite = nn.Conv2d(channels, 4, 1), nn.Conv2d(4, channels, 1)

    def forward(self, x):
        pooled = F.relu(self.squeeze(F.adaptive_avg_pool2d(x, 1)))
        return x * F.hardsigmoid(self.excite(pooled))


def mobile(activation=nn.ReLU6, gated=False):
    """As MobileNet v2 and EfficientNet-Lite; gated and with hard-swish as MobileNet v3."""
    settings = [(8, 8, 3, 1), (8, 12, 5, 2), (12, 12, 3, 1), (12, 16, 3, 2), (16, 16, 5, 1)]
    blocks = [InvertedResidual(*setting, activation, gated) for setting in settings]
    return Classifier(conv_bn(3, 8, stride=2, activation=activation), nn.Sequential(*blocks), 16)


def hard_swish():
    return mobile(nn.Hardswish, gated=True)


class Grown(nn.Module):
    """Input and new features side by side."""

    def __init__(self, in_channels, new):
        super().__init__()
        self.new = nn.Sequential(nn.BatchNorm2d(in_channels), nn.ReLU(), nn.Conv2d(in_channels, new, 3, padding=1))

    def forward(self, x):
        return torch.cat([x, self.new(x)], 1)


class Branches(nn.Module):
    """Four ways through a cell, two of them pooling, concatenated; halves the size."""

    def __init__(self, in_channels):
        super().__init__()
        self.plain = conv_bn(in_channels, 6, stride=2, activation=nn.ReLU)
        self.grouped = conv_bn(in_channels, 8, stride=2, groups=2, activation=nn.SiLU)
        self.pooled = nn.Sequential(nn.AvgPool2d(3, 2, 1, count_include_pad=False), conv_bn(in_channels, 4, 1))

    def forward(self, x):
        return torch.cat([self.plain(x), self.grouped(x), self.pooled(x), F.max_pool2d(x, 3, 2, 1)], 1)


def concatenating():
    """As DenseNet and Inception: max and average pooling in the middle, so with gradients."""
    features = nn.Sequential(Grown(8, 4), Branches(12), Grown(30, 6), Branches(36))
    return Classifier(conv_bn(3, 8, stride=2, activation=nn.ReLU), features, 54)


# Network and side of the meta convolutions' window.
NETWORKS = {"bottlenecks": (bottlenecks, 1), "mobile": (mobile, 3), "hard-swish": (hard_swish, 1)}
NETWORKS["concatenating"] = (concatenating, 3)


def unsettled(network):
    """Norms and statistics away from their neutral values, and a classifier confident enough to learn from frames."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.7, 1.3)
            nn.init.normal_(module.bias, 0, 0.2)
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.7, 1.5)
    classifier = [module for module in network.modules() if isinstance(module, nn.Linear)][-1]
    classifier.weight.data.mul_(60)
    return network.eval()


def compare(network, frames, normalisation, open_session, distance, *, kernel=1, deep=False):
    """One step by torch and one by onnxruntime from the same state: alike to 1e-5.

    In batch statistics a deep network of random weights magnifies the last bits, in torch too: its own step in float64
    lies up to 1e-4 away. `deep` therefore allows three times that distance where it is above 1e-5.
    """
    options = StepOptions(normalisation=normalisation, entropy_margin=0.9)
    adaptable = attach(partition(network, frames[:1], parts=3), kernel)
    state = initial_state(adaptable)
    model = build_graph(adaptable, state, options, GraphRequest("step", "step", len(frames)))
    session = open_session(model)

    outcome = Step(adaptable, options)(state, frames)
    exact = in_float64(adaptable, options, state, frames) if deep else outcome
    feeds = {"frames": frames.numpy(), "parameters": flat(state.parameters), "momentum": flat(state.momentum)}
    if options.normalisation == "running":
        feeds["statistics"] = flat_statistics(state)
    found = dict(zip([output.name for output in session.get_outputs()], session.run(None, feeds), strict=True))

    assert {node.domain for node in model.graph} == {""}
    assert outcome.report["kept"].any(), "the gate kept no frame: nothing is compared"
    assert outcome.moved and found["moved"]
    assert found["kept"].tolist() == outcome.report["kept"].tolist()
    logits, parameters = outcome.logits, flat(outcome.state.parameters)
    assert distance(found["logits"], logits) < max(1e-5, 3 * distance(logits, exact.logits))
    rounding = distance(parameters, flat(exact.state.parameters))
    assert distance(found["next_parameters"], parameters) < max(1e-5, 3 * rounding)
    # After the first step the momentum is the gradient: where a rule is wrong, this is far off.
    gradient, exact_gradient = flat(outcome.state.momentum), flat(exact.state.momentum)
    assert length(found["next_momentum"] - gradient) < max(
        1e-4 * length(gradient), 3 * length(gradient - exact_gradient)
    )
    if options.normalisation == "running":
        assert distance(found["seen"], outcome.seen.numpy()) < 1e-5


def in_float64(adaptable, options, state, frames):
    def double(named):
        return {name: value.double() for name, value in named.items()}

    moments = {name: (mean.double(), variance.double()) for name, (mean, variance) in state.statistics.items()}
    wide = StepState(double(state.parameters), double(state.momentum), moments)
    return Step(copy.deepcopy(adaptable).double(), options)(wide, frames.double())


def length(vector):
    return np.linalg.norm(vector.astype(np.float64))


def flat(named):
    return flatten(named, named).numpy()


def flat_statistics(state):
    return torch.cat([value for moments in state.statistics.values() for value in moments]).numpy()


@pytest.mark.parametrize(("normalisation", "batch"), [("running", 1), ("batch", 4)])
@pytest.mark.parametrize(("build", "kernel"), NETWORKS.values(), ids=NETWORKS.keys())
def test_an_exported_step_is_the_torch_step(build, kernel, normalisation, batch, open_session, distance):
    torch.manual_seed(0)
    network = unsettled(build())

    compare(network, torch.rand(batch, 3, SIDE, SIDE), normalisation, open_session, distance, kernel=kernel)


@pytest.mark.slow
@pytest.mark.parametrize(("normalisation", "batch"), [("running", 1), ("batch", 4)])
@pytest.mark.parametrize("model", ["resnet-50", "efficientnet-lite0"])
def test_a_network_of_imagenet_size_is_exported(model, normalisation, batch, open_session, distance):
    torch.manual_seed(0)
    network = unsettled(build_network(model))

    compare(network, torch.rand(batch, 3, 224, 224), normalisation, open_session, distance, deep=True)


@pytest.mark.slow
def test_efficientnet_lite0_is_exported_with_its_public_weights(efficientnet_lite0_weights, open_session, distance):
    network = build_network("efficientnet-lite0").eval()
    load_checkpoint(network, efficientnet_lite0_weights)
    frames = torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(3))

    compare(network, frames, "running", open_session, distance)


@pytest.mark.slow
@pytest.mark.parametrize("model", ["resnet-50", "efficientnet-lite0"])
def test_a_bundle_of_imagenet_size_learns_from_frames_as_torch_does(model, tmp_path, distance):
    """From pixels to the state after a frame, through the bundle and the runtime that a device has."""
    torch.manual_seed(0)
    network = unsettled(build_network(model))
    options = StepOptions(normalisation="running", entropy_margin=0.95)
    adaptable = attach(partition(network, torch.zeros(1, 3, 224, 224), parts=4), 1)
    state = to_adapt_state(initial_state(adaptable), adaptable.digest())
    classes = [f"class {i}" for i in range(1000)]
    path = tmp_path / "net.ecotta"
    export(adaptable, state, path, ExportOptions(model=model, classes=classes, batches=(1,), step=options, fast=True))
    engine = TorchEngine(adaptable, options, state)
    runtimes = [Runtime.load(path, fast=fast) for fast in (False, True)]
    pixels = np.random.default_rng(0).integers(0, 256, (1, 224, 224, 3), np.uint8)

    for frame in pixels:
        floats = torch.from_numpy(frame[None].transpose(0, 3, 1, 2).astype(np.float32) / 255)
        outcome = engine.step(floats)
        for runtime in runtimes:
            prediction = runtime(frame[None])
            assert prediction.labels.tolist() == outcome.logits.argmax(1).tolist()
            assert prediction.adapted == bool(outcome.moved)

    # Over all parameters together, see benchmarks/compare_engines.py: a bias that started at zero has no digits.
    before, expected = (np.concatenate([a.ravel() for a in one.parameters.values()]) for one in (state, engine.state))
    assert not np.array_equal(before, expected), "no frame passed the gate: nothing is compared"
    for runtime in runtimes:
        found = np.concatenate([runtime.state.parameters[name].ravel() for name in engine.state.parameters])
        assert distance(found, torch.from_numpy(expected)) < 1e-5
