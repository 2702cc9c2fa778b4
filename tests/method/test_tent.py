"""TENT as a method of ours, against its plain form and against the authors' way to write it."""

import copy

import pytest
import torch
from torch import nn

from ecotta_rt.errors import NetworkError, UsageError
from ecotta_rt.method.base import Loss
from ecotta_rt.method.cut.partition import partition
from ecotta_rt.method.losses import entropy_nats
from ecotta_rt.method.plain import Plain
from ecotta_rt.method.state import initial_state
from ecotta_rt.method.step import Step
from ecotta_rt.method.tent import Tent
from ecotta_rt.options import StepOptions
from ecotta_rt.prepare.networks.wide_resnet import WideResNet

OPTIONS = StepOptions(lr=0.02)


def network():
    torch.manual_seed(0)
    made = WideResNet(10, 1, classes=5).eval().double()
    for module in made.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.data.uniform_(0.5, 1.5)
            module.bias.data.normal_(0, 0.3)
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 2)
    return made


@pytest.fixture
def frames():
    return torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def tent(frames, parts=1):
    return Tent(partition(network(), frames[:1], parts))


def test_three_steps_are_those_of_the_authors_code_with_sgd(frames):
    """Their way: training mode without running statistics, scale and shift require a gradient, mean entropy."""
    theirs = copy.deepcopy(network()).train().requires_grad_(False)
    norms = {name: module for name, module in theirs.named_modules() if isinstance(module, nn.BatchNorm2d)}
    for norm in norms.values():
        norm.requires_grad_(True)
        norm.track_running_stats, norm.running_mean, norm.running_var = False, None, None
    optimiser = torch.optim.SGD([p for norm in norms.values() for p in norm.parameters()], lr=0.02, momentum=0.9)
    method = tent(frames)
    state, step = initial_state(method), Step(method, OPTIONS)

    for shift in range(3):
        batch = frames.roll(shift, 3)
        expected = theirs(batch)
        optimiser.zero_grad()
        entropy_nats(expected).mean().backward()
        optimiser.step()
        outcome = step(state, batch)
        state = outcome.state
        torch.testing.assert_close(outcome.logits, expected.detach())

    assert bool(outcome.moved) and bool(outcome.report["kept"].all())
    assert state.parameters.keys() == {f"{name}.{which}" for name in norms for which in ("weight", "bias")}
    for name, norm in norms.items():
        torch.testing.assert_close(state.parameters[f"{name}.weight"], norm.weight.detach(), rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(state.parameters[f"{name}.bias"], norm.bias.detach(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("mode", ["batch", "running", "source"])
def test_the_lean_step_is_the_plain_step_however_the_network_is_cut(frames, mode):
    options = StepOptions(normalisation=mode, lr=0.02)
    plain, lean = tent(frames), tent(frames, parts=3)

    expected = Step(plain, options, Plain(options))(initial_state(plain), frames)
    found = Step(lean, options)(initial_state(lean), frames)

    torch.testing.assert_close(found.logits, expected.logits)
    torch.testing.assert_close(found.state[:3], expected.state[:3], rtol=1e-8, atol=1e-11)


def test_a_network_without_scale_and_shift_has_nothing_that_learns(frames):
    bare = network()
    for norm in (module for module in bare.modules() if isinstance(module, nn.BatchNorm2d)):
        norm.affine, norm.weight, norm.bias = False, None, None

    with pytest.raises(NetworkError, match="no BatchNorm with scale and shift"):
        Tent(partition(bare, frames[:1], 1))


@pytest.mark.parametrize("means", [(), ("frames",), ("kept", "kept")])
def test_a_method_has_exactly_one_loss_over_kept_frames(frames, means):
    class Another(Tent):
        losses = tuple(Loss(f"loss_{i}", mean) for i, mean in enumerate(means))

    with pytest.raises(UsageError, match=f"^tent has {means.count('kept')} losses .* takes one; give"):
        Step(Another(partition(network(), frames[:1], 1)), OPTIONS)


def test_a_two_step_needs_a_loss_to_go_down_first(frames):
    with pytest.raises(UsageError, match="two-step.* with tent: it has one loss"):
        Step(tent(frames), StepOptions(schedule="two-step"))
