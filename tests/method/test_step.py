"""The lean step against plain autograd over the plain modules, and against hand calculation."""

from dataclasses import replace

import pytest
import torch

from ecotta_rt.errors import UsageError
from ecotta_rt.method.losses import entropy_nats, entropy_threshold_nats
from ecotta_rt.method.plain import Plain
from ecotta_rt.method.state import initial_state
from ecotta_rt.method.step import Step
from ecotta_rt.options import StepOptions
from ecotta_rt.profile.profiler import profile_step

# Some of the six frames pass this gate and some do not (asserted where it matters).
OPEN = StepOptions(entropy_margin=0.6, segment_cells=1)


def plain_gradients(network, frames, options, statistics=None):
    """Gradients by ordinary modules, ordinary autograd, and the losses as the paper writes them."""
    learned = network.learned_parameters()
    own = dict(network.groups.named_parameters(prefix="groups")) | frozen_parameters(network, learned)
    norms = network.norms()
    for name, norm in norms.items():
        norm.train(statistics is None)
        if statistics is not None:
            norm.running_mean.copy_(statistics[name][0])
            norm.running_var.copy_(statistics[name][1])
    logits, pairs = network.forward_with_features(frames)
    for norm in norms.values():
        norm.train()
    entropy = entropy_nats(logits)
    kept = entropy.detach() < entropy_threshold_nats(logits.shape[1], options.entropy_margin)
    l1 = sum((adapted - own.detach()).abs().mean() for adapted, own in pairs)
    loss = entropy[kept].mean() + options.l1_weight * l1
    gradients = torch.autograd.grad(loss, [own[name] for name in learned])
    return logits.detach(), dict(zip(learned, gradients, strict=True)), kept


def frozen_parameters(network, names):
    """Those of the frozen pieces that learn, by their names in a state."""
    pieces = (piece.named_parameters() for piece in network.frozen_pieces())
    return {name: p.requires_grad_() for piece in pieces for name, p in piece if name in names}


def assert_same_gradients(found, expected, tolerance=1e-9):
    assert found.keys() == expected.keys()
    for name in expected:
        scale = expected[name].abs().max()
        assert (found[name] - expected[name]).abs().max() <= tolerance * scale, name


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("recompute_meta", [False, True])
@pytest.mark.parametrize(("segment_cells", "keep_parts"), [(1, 0), (2, 0), (99, 0), (1, 1), (1, 99)])
def test_the_exact_step_equals_plain_autograd(
    adaptable, frames, recompute_meta, segment_cells, keep_parts, channels_last
):
    options = replace(OPEN, recompute_meta=recompute_meta, segment_cells=segment_cells, keep_parts=keep_parts)
    frames = frames.contiguous(memory_format=torch.channels_last) if channels_last else frames
    logits, gradients, kept = plain_gradients(adaptable, frames, options)
    assert 0 < kept.sum() < len(frames)

    outcome = Step(adaptable, options)(initial_state(adaptable), frames)

    torch.testing.assert_close(outcome.logits, logits)
    assert torch.equal(outcome.report["kept"], kept)
    assert_same_gradients(outcome.state.momentum, gradients)  # the first momentum is the gradient


@pytest.mark.parametrize(("segment_cells", "keep_parts"), [(1, 0), (99, 0), (1, 1), (1, 99)])
def test_frozen_norms_that_learn_have_the_gradients_of_plain_autograd(
    make_adaptable, frames, segment_cells, keep_parts
):
    network, options = (
        make_adaptable(norms_learn=True),
        replace(OPEN, segment_cells=segment_cells, keep_parts=keep_parts),
    )
    logits, gradients, _ = plain_gradients(network, frames, options)
    assert {"block1.layer.0.bn1.weight", "block3.layer.1.bn2.bias", "bn1.weight"} <= gradients.keys()

    outcome = Step(network, options)(initial_state(network), frames)

    torch.testing.assert_close(outcome.logits, logits)
    assert_same_gradients(outcome.state.momentum, gradients)


def test_frozen_norms_that_learn_keep_hardly_more_for_the_backward(make_adaptable, frames):
    def kept_bytes(network):
        state, step = initial_state(network), Step(network, StepOptions(segment_cells=1))
        return profile_step(lambda: step(state, frames)).activation_bytes

    assert kept_bytes(make_adaptable(norms_learn=True)) < 1.25 * kept_bytes(make_adaptable())


@pytest.mark.parametrize("mode", ["batch", "running", "source"])
@pytest.mark.parametrize(
    "changes", [{}, {"schedule": "two-step"}, {"l1_gradient": "local"}, {"frozen_gradient": "constant"}]
)
def test_the_lean_step_is_the_plain_step(adaptable, frames, mode, changes):
    options = replace(OPEN, normalisation=mode, **changes)
    state = initial_state(adaptable)

    plain = Step(adaptable, options, Plain(options))(state, frames)
    lean = Step(adaptable, options)(state, frames)

    assert plain.report["kept"].any() and plain.moved
    assert lean.report.keys() == plain.report.keys()
    torch.testing.assert_close(lean.logits, plain.logits)
    torch.testing.assert_close(lean.report, plain.report)
    torch.testing.assert_close(lean.state.statistics, plain.state.statistics)
    assert_same_gradients(lean.state.momentum, plain.state.momentum)


@pytest.mark.parametrize("mode", ["running", "source"])
@pytest.mark.parametrize("frozen_gradient", ["exact", "constant"])
def test_with_constant_statistics_both_gradients_are_exact(adaptable, frames, mode, frozen_gradient):
    options = replace(OPEN, normalisation=mode, frozen_gradient=frozen_gradient, statistics_momentum=0.0)
    state = initial_state(adaptable)
    logits, gradients, kept = plain_gradients(adaptable, frames, options, state.statistics)
    assert kept.any()

    outcome = Step(adaptable, options)(state, frames)

    torch.testing.assert_close(outcome.logits, logits)
    assert_same_gradients(outcome.state.momentum, gradients)


def test_in_float32_the_exact_step_agrees_to_1e_5(make_adaptable):
    network = make_adaptable(dtype=torch.float32)
    frames = torch.rand(6, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    _, gradients, _ = plain_gradients(network, frames, OPEN)

    outcome = Step(network, OPEN)(initial_state(network), frames)

    assert_same_gradients(outcome.state.momentum, gradients, tolerance=1e-5)


def test_three_steps_are_three_steps_of_torch_sgd(adaptable, frames):
    state, step = initial_state(adaptable), Step(adaptable, OPEN)
    leaves = {name: p.clone().requires_grad_() for name, p in state.parameters.items()}
    optimiser = torch.optim.SGD(leaves.values(), lr=OPEN.lr, momentum=OPEN.sgd_momentum)

    for shift in range(3):
        batch = frames.roll(shift, 3)
        adaptable.load_state_dict(leaves, strict=False)
        _, gradients, _ = plain_gradients(adaptable, batch, OPEN)
        for name, leaf in leaves.items():
            leaf.grad = gradients[name]
        optimiser.step()
        state = step(state, batch).state

    for name, leaf in leaves.items():
        torch.testing.assert_close(state.parameters[name], leaf.detach(), rtol=1e-8, atol=1e-10)


def test_a_step_changes_none_of_the_values_it_is_given(adaptable, frames):
    state = initial_state(adaptable)
    before = {name: p.clone() for name, p in state.parameters.items()}
    frames_before = frames.clone()

    outcome = Step(adaptable, OPEN)(state, frames)

    assert torch.equal(frames, frames_before)
    for name, value in before.items():
        assert torch.equal(state.parameters[name], value)
        assert not torch.equal(outcome.state.parameters[name], value), name


@pytest.mark.parametrize("schedule", ["one-step", "two-step"])
def test_an_empty_gate_is_a_zero_step_of_the_entropy(adaptable, frames, schedule):
    """Nothing below the threshold: one-step moves nothing; two-step still makes its L1 update, which comes first."""
    options = replace(OPEN, entropy_margin=0.0, schedule=schedule)
    state = initial_state(adaptable)
    state = state._replace(momentum={n: torch.full_like(p, 0.1) for n, p in state.momentum.items()})

    outcome = Step(adaptable, options)(state, frames)

    assert not outcome.report["kept"].any()
    assert torch.isfinite(outcome.logits).all()
    moved = [n for n in state.parameters if not torch.equal(outcome.state.parameters[n], state.parameters[n])]
    assert bool(moved) == (schedule == "two-step")
    assert all(torch.isfinite(p).all() for p in outcome.state.parameters.values())


def test_a_gradient_that_is_not_finite_is_a_zero_step(adaptable, frames):
    """One frame whose features overflow is answered with NaN, and leaves what the others taught for the next step."""
    options = replace(OPEN, normalisation="source")
    state = initial_state(adaptable)
    frames[0] *= 1e308

    outcome = Step(adaptable, options)(state, frames)

    assert not torch.isfinite(outcome.logits[0]).all()
    assert torch.isfinite(outcome.logits[1:]).all()
    for name, parameter in state.parameters.items():
        assert torch.equal(outcome.state.parameters[name], parameter)
        assert torch.equal(outcome.state.momentum[name], state.momentum[name])


def test_without_entropy_margin_every_frame_counts(adaptable, frames):
    outcome = Step(adaptable, replace(OPEN, entropy_margin=1.0))(initial_state(adaptable), frames)

    assert outcome.report["kept"].all()


def test_two_step_predicts_after_its_l1_update_and_before_its_entropy_update(adaptable, frames):
    options = replace(OPEN, schedule="two-step")
    state = initial_state(adaptable)
    no_entropy = Step(adaptable, replace(OPEN, entropy_margin=0.0, schedule="two-step"))(state, frames)

    outcome = Step(adaptable, options)(state, frames)

    after_l1 = Step(adaptable, OPEN).predict(no_entropy.state, frames)
    torch.testing.assert_close(outcome.logits, after_l1)


def test_local_l1_gradients_stop_at_their_own_group(adaptable, frames):
    """By hand: each group's distance from detached inputs; and the entropy's part is that of lambda = 0."""
    options = replace(OPEN, l1_gradient="local")
    state = initial_state(adaptable)
    entropy_only = Step(adaptable, replace(OPEN, l1_weight=0.0))(state, frames).state.momentum
    for group in adaptable.meta_groups:
        group.zero_grad(set_to_none=True)
    with torch.no_grad():
        x = adaptable.stem(frames)
    for part, group in zip(adaptable.parts, adaptable.meta_groups, strict=True):
        own = part(x)
        adapted = group(x, own)
        (options.l1_weight * (adapted - own).abs().mean()).backward()
        x = adapted.detach()
    by_name = dict(adaptable.groups.named_parameters(prefix="groups"))

    momentum = Step(adaptable, options)(state, frames).state.momentum

    assert_same_gradients(momentum, {n: entropy_only[n] + by_name[n].grad for n in momentum})


@pytest.mark.parametrize("l1_gradient", ["full", "local"])
@pytest.mark.parametrize("mode", ["running", "source"])
def test_frame_by_frame_equals_the_batch_where_it_does_not_give_the_statistics(adaptable, frames, mode, l1_gradient):
    batch = replace(OPEN, normalisation=mode, l1_gradient=l1_gradient)
    state = initial_state(adaptable)

    whole = Step(adaptable, batch)(state, frames)
    single = Step(adaptable, replace(batch, frame_by_frame=True))(state, frames)

    torch.testing.assert_close(single.logits, whole.logits)
    torch.testing.assert_close(single.report, whole.report)
    torch.testing.assert_close(single.seen, whole.seen)
    assert_same_gradients(single.state.momentum, whole.state.momentum)


@pytest.mark.parametrize("schedule", ["one-step", "two-step"])
def test_running_statistics_stay_and_each_frames_own_are_told(adaptable, frames, schedule):
    options = replace(OPEN, normalisation="running", schedule=schedule)
    state = initial_state(adaptable)
    first = next(iter(state.statistics))  # the first norm sees the stem's output, whatever the groups do

    outcome = Step(adaptable, options)(state, frames)

    with torch.no_grad():
        features = adaptable.stem(frames)
    channels = features.shape[1]
    torch.testing.assert_close(outcome.seen[:, :channels], features.mean((2, 3)))
    torch.testing.assert_close(outcome.seen[:, channels : 2 * channels], features.var((2, 3), correction=0))
    assert outcome.seen.shape == (len(frames), len(state.vector("statistics")))
    assert all(torch.equal(outcome.state.statistics[name][0], state.statistics[name][0]) for name in state.statistics)
    assert first in state.statistics


def test_what_is_seen_has_the_order_of_the_statistics_and_nothing_of_norms_that_are_held(adaptable, frames):
    options = replace(OPEN, normalisation="running")
    everything = Step(adaptable, options).observe(initial_state(adaptable), frames)[1]
    first, second, *_ = names = list(adaptable.norms())
    adaptable.set_momenta({second: 0.0})
    state = initial_state(adaptable)

    logits, seen = Step(adaptable, options).observe(state, frames)

    counts = [2 * len(state.statistics[name][0]) for name in names]
    expected = torch.cat([everything[:, : counts[0]], everything[:, counts[0] + counts[1] :]], 1)
    torch.testing.assert_close(seen, expected)
    torch.testing.assert_close(logits, Step(adaptable, options).predict(state, frames))
    assert first not in state.held and second in state.held
    marked = torch.arange(float(seen.shape[1]))
    assert torch.equal(state.with_vectors(statistics=marked).vector("statistics"), marked)
    assert torch.equal(state.with_vectors(statistics=marked).statistics[second][0], state.statistics[second][0])


def test_predicting_is_the_forward_of_the_step(adaptable, frames):
    state, step = initial_state(adaptable), Step(adaptable, OPEN)

    torch.testing.assert_close(step.predict(state, frames), step(state, frames).logits)


def test_the_saving_is_real(adaptable, frames):
    """Each form keeps less than the one before; with constant statistics the frozen branch costs next to nothing."""
    state = initial_state(adaptable)

    def kept(options):
        step = Step(adaptable, options)
        return profile_step(lambda: step(state, frames), adaptable).activation_bytes

    naive = profile_step(lambda: plain_gradients(adaptable, frames, OPEN), adaptable).activation_bytes
    exact = kept(OPEN)
    constant = kept(replace(OPEN, frozen_gradient="constant"))
    running = kept(replace(OPEN, normalisation="running", frame_by_frame=True))

    # By hand, float64: what the groups share with the parts, x_k and x~_{k-1}, at 16 channels 32x32 and so on.
    elements = {"x": [16 * 1024, 16 * 1024, 32 * 256, 64 * 64], "input": [16 * 1024, 16 * 1024, 16 * 1024, 32 * 256]}
    groups = 8 * len(frames) * sum(sum(sizes) for sizes in elements.values())
    assert groups < constant < 1.15 * groups  # the rest is bits
    assert constant < exact < 0.5 * naive
    assert running < constant / (len(frames) - 1)


def test_options_that_cannot_be_meant_are_refused(subtests):
    for wrong in [
        {"normalisation": "layer"},
        {"frozen_gradient": "rough"},
        {"schedule": "three-step"},
        {"l1_gradient": "none"},
        {"l1_weight": -1.0},
        {"lr": float("nan")},
        {"lr": float("inf")},
        {"entropy_margin": 1.5},
        {"segment_cells": 0},
        {"keep_parts": -1},
        {"sgd_momentum": 1.0},
        {"frame_by_frame": True},
    ]:
        with subtests.test(**wrong), pytest.raises(UsageError, match=next(iter(wrong))):
            StepOptions(**wrong)
