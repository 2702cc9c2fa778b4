"""Groups that start as an identity: the adaptable network answers as the frozen one, learns, and costs no more."""

import copy
import math
from functools import cache

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from ecotta_rt.bundle import read_bundle
from ecotta_rt.errors import InputFileError, UsageError
from ecotta_rt.exporter.export import export
from ecotta_rt.exporter.request import ExportOptions
from ecotta_rt.method.attach import attach_as
from ecotta_rt.method.ecotta import AdaptableNetwork
from ecotta_rt.method.losses import entropy_nats
from ecotta_rt.method.state import initial_state, to_step_state
from ecotta_rt.method.step import Step
from ecotta_rt.method.torch_engine import TorchEngine
from ecotta_rt.options import StepOptions
from ecotta_rt.prepare.calibrate import measure_statistics
from ecotta_rt.prepare.identity import identity_state, start_as_identity
from ecotta_rt.runtime.engine import Runtime
from ecotta_rt.state import AdaptState

MODES = ("batch", "running", "source")
EXPORTED = ("running", *(pytest.param(mode, marks=pytest.mark.slow) for mode in ("batch", "source")))
"""An export takes seconds, and the torch step is compared in every mode."""
MOMENTUM = 0.1


class NormByHand(nn.Module):
    """The three normalisation modes as DESIGN has them, without the step's code."""

    def __init__(self, norm, mode):
        super().__init__()
        self.norm, self.mode = norm, mode
        self.mean, self.variance = norm.running_mean.clone(), norm.running_var.clone()

    def forward(self, x):
        mean, variance = self.mean, self.variance
        if self.mode == "batch":
            mean, variance = x.mean((0, 2, 3)), x.var((0, 2, 3), unbiased=False)
        elif self.mode == "running":
            for seen_mean, seen_variance in zip(x.mean((2, 3)), x.var((2, 3), unbiased=False), strict=True):
                d = seen_mean - self.mean
                self.variance = (1 - MOMENTUM) * (self.variance + MOMENTUM * d**2) + MOMENTUM * seen_variance
                self.mean = self.mean + MOMENTUM * d
        scale = self.norm.weight / (variance + self.norm.eps).sqrt()
        return (x - mean[:, None, None]) * scale[:, None, None] + self.norm.bias[:, None, None]


def by_hand(network: AdaptableNetwork, mode: str) -> nn.Module:
    network = copy.deepcopy(nn.Sequential(network.stem, *network.parts, network.head))
    for path, norm in list(network.named_modules()):
        if isinstance(norm, nn.BatchNorm2d):
            network.set_submodule(path, NormByHand(norm, mode))
    return network


def options(mode: str, **changes) -> StepOptions:
    return StepOptions(normalisation=mode, statistics_momentum=MOMENTUM, entropy_margin=1.0, **changes)


@pytest.fixture
def stream(tiny):
    """Three batches of 4 frames."""
    return [torch.from_numpy(tiny.floats(4, seed)) for seed in range(3)]


@pytest.fixture(scope="module")
def bundle_of(tiny, tmp_path_factory):
    """From a normalisation to the path of a bundle of the identity start, for steps of 4 frames."""

    @cache
    def make(mode):
        network, path = tiny.network(), tmp_path_factory.mktemp("identity") / f"{mode}.ecotta"
        wanted = ExportOptions("wrn", classes=list("abcde"), batches=(tiny.batch,), step=options(mode))
        export(network, identity_state(network), path, wanted)
        return path

    return make


@pytest.mark.parametrize("mode", MODES)
def test_at_an_identity_start_the_step_answers_as_the_frozen_network_in_every_mode(tiny, stream, mode):
    network = tiny.network()
    expected, unwarmed = by_hand(network, mode), TorchEngine(network, options(mode)).predict(stream[0])
    engine = TorchEngine(network, options(mode), identity_state(network))

    assert (unwarmed - by_hand(network, mode)(stream[0])).abs().max() > 0.1, "what the identity is there to avoid"
    for frames in stream:
        torch.testing.assert_close(engine.predict(frames), expected(frames), atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("mode", MODES)
def test_the_identity_is_exact_to_the_last_bit(tiny, stream, mode):
    """Its L1 terms are 0 then, and so are their gradients: rounding would give each feature a sign at random."""
    network = tiny.network()
    engine = TorchEngine(network, options(mode), identity_state(network))

    assert engine.step(stream[0]).report["l1"].tolist() == [0.0, 0.0]


@pytest.mark.parametrize("mode", EXPORTED)
def test_the_exported_graphs_of_an_identity_start_answer_as_the_frozen_network(tiny, bundle_of, stream, mode):
    runtime, expected = Runtime.load(bundle_of(mode)), by_hand(tiny.network(), mode)
    for frames in stream:
        logits = expected(frames)
        np.testing.assert_allclose(runtime.predict(frames.numpy()).probabilities, logits.softmax(1), atol=1e-5)

    fresh, expected = Runtime.load(bundle_of(mode)), by_hand(tiny.network(), mode)
    answered = fresh(stream[0].numpy())
    np.testing.assert_allclose(answered.probabilities, expected(stream[0]).softmax(1), atol=1e-5)


@pytest.mark.parametrize("mode", EXPORTED)
def test_exported_steps_from_an_identity_start_learn_what_the_torch_step_learns(tiny, bundle_of, stream, mode):
    network = tiny.network()
    engine, runtime = TorchEngine(network, options(mode), identity_state(network)), Runtime.load(bundle_of(mode))
    for frames in stream:
        engine.step(frames)
        runtime(frames.numpy())

    for section in ("parameters", "statistics"):
        for name, expected in getattr(engine.state, section).items():
            np.testing.assert_allclose(getattr(runtime.state, section)[name], expected, atol=2e-4, err_msg=name)


@pytest.mark.parametrize("mode", MODES)
def test_the_first_step_moves_the_norms_of_the_groups_and_the_second_their_convolutions(tiny, stream, mode):
    network = tiny.network()
    start = identity_state(network)
    engine = TorchEngine(network, options(mode, lr=0.05), start)

    first, second = (engine.step(frames) and engine.state for frames in stream[:2])

    def moved(state, parameter):
        name = f"groups.0.{parameter}"
        return not np.array_equal(state.parameters[name], start.parameters[name])

    assert all(moved(first, name) for name in ("norm.weight", "norm.bias", "conv_norm.weight", "conv_norm.bias"))
    assert moved(second, "conv.weight")


@pytest.mark.parametrize("mode", MODES)
def test_a_held_norm_keeps_its_statistics_and_gradients_flow_as_through_plain_autograd(tiny, stream, mode):
    network = tiny.network()
    state = identity_state(network)
    engine = TorchEngine(network, options(mode, lr=0.05), state)
    for frames in stream:
        engine.step(frames)

    for name in ("groups.0.norm.mean", "groups.1.norm.variance"):
        assert np.array_equal(engine.state.statistics[name], state.statistics[name])
    if mode == "batch":
        network.load_state_dict(to_step_state(network, engine.state).parameters, strict=False)
        torch.testing.assert_close(network(frames), engine.predict(frames), atol=1e-4, rtol=1e-4)


def test_gradients_past_a_held_norm_are_those_of_plain_autograd(tiny, stream):
    network = tiny.network()
    engine = TorchEngine(network, options("batch", lr=0.05), identity_state(network))
    engine.step(stream[0])  # away from the identity, where the convolutions have no gradient yet
    state = to_step_state(network, engine.state)
    network.load_state_dict(state.parameters, strict=False)

    lean = Step(network, options("batch", l1_weight=0.0)).differentiate(state, stream[1]).gradients["entropy"]
    entropy = entropy_nats(network(stream[1]))
    plain = torch.autograd.grad(entropy[entropy < math.log(5)].sum(), list(network.groups.parameters()))

    for (name, _), expected in zip(network.groups.named_parameters(prefix="groups"), plain, strict=True):
        scale = float(expected.abs().max())
        torch.testing.assert_close(lean[name], expected, atol=1e-4 * scale, rtol=1e-3, msg=name)


def test_a_pass_over_pictures_measures_all_statistics_but_the_held_ones(tiny):
    network = tiny.network()
    start_as_identity(network)
    before = initial_state(network)
    pictures = np.random.default_rng(0).integers(0, 256, (12, 8, 8, 3), np.uint8)

    after = measure_statistics(network, before, pictures, 6)

    same = {name for name in after if torch.equal(after[name][1], before.statistics[name][1])}
    assert same == {"groups.0.norm", "groups.1.norm"}


def test_a_norm_may_move_at_a_momentum_of_its_own(tiny, stream):
    def after_a_frame(momentum, momenta):
        network = tiny.network()
        network.set_momenta(momenta)
        engine = TorchEngine(network, StepOptions(normalisation="running", statistics_momentum=momentum))
        engine.predict(stream[0])
        return engine.state.statistics

    own, half, tenth = after_a_frame(0.1, {"block1.bn1": 0.5}), after_a_frame(0.5, {}), after_a_frame(0.1, {})

    assert np.array_equal(own["block1.bn1.mean"], half["block1.bn1.mean"])
    assert not np.array_equal(own["block1.bn1.mean"], tenth["block1.bn1.mean"])
    assert not np.array_equal(own["bn.mean"], half["bn.mean"])


def test_a_state_with_held_norms_fits_no_network_without_them(tiny, tmp_path):
    network = tiny.network()
    state = identity_state(network)
    state.save(tmp_path / "held.safetensors")
    read = AdaptState.load(tmp_path / "held.safetensors")

    pieces = tiny.network().partition
    assert attach_as(pieces, read).momenta == {"groups.0.norm": 0.0, "groups.1.norm": 0.0}
    with pytest.raises(InputFileError, match="belongs to network"):
        TorchEngine(tiny.network(), state=read)


def test_momenta_that_do_not_fit_are_told(tiny, subtests):
    for momenta in ['{"no.such": 0}', '{"groups.0.norm": 2}', '{"groups.0.norm": null}', "[]", "{"]:
        with subtests.test(momenta=momenta):
            state = identity_state(tiny.network())
            damaged = AdaptState(state.parameters, state.momentum, state.statistics, "", {"momenta": momenta})
            with pytest.raises(InputFileError, match="momenta"):
                attach_as(tiny.network().partition, damaged)


def test_a_momentum_of_no_norm_is_refused(tiny):
    with pytest.raises(UsageError, match=r"groups\.7\.norm"):
        tiny.network().set_momenta({"groups.7.norm": 0.0})


@pytest.mark.parametrize("mode", EXPORTED)
def test_a_step_from_an_identity_start_needs_no_more_memory_and_no_more_operators(tiny, bundle_of, mode):
    """Held statistics are not measured, and in `batch` mode nothing flows back through them."""
    held, plain = (read_bundle(path) for path in (bundle_of(mode), tiny.bundle(mode)))

    for name in ("step-4", "predict-4"):
        of_held, of_plain = (bundle.manifest.graph(name) for bundle in (held, plain))
        assert of_held.step_peak_bytes <= of_plain.step_peak_bytes
        assert nodes(held, name) <= nodes(plain, name)
    if mode != "source":  # where no statistics move anyway
        assert nodes(held, "step-4") < nodes(plain, "step-4")


def nodes(bundle, name):
    return len(onnx.load_model_from_string(bundle.graph(name)).graph.node)
