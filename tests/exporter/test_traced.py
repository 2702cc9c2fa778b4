"""The trace is the step: same inputs, same results, and nothing of the zeros it was recorded with is left in it."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from ecotta_rt.exporter import traced as module
from ecotta_rt.exporter.traced import trace_accumulate, trace_observe, trace_predict, trace_step, trace_update
from ecotta_rt.method.state import StepState, flatten, initial_state
from ecotta_rt.method.step import Step

BATCH = 3
MODES = ("batch", "running", "source")


class Made:
    """A step and a state that is nowhere zero."""

    def __init__(self, tiny, normalisation, **changes):
        self.network = tiny.network()
        self.options = tiny.options(normalisation, **changes)
        self.step = Step(self.network, self.options)
        state = initial_state(self.network)
        generator = torch.Generator().manual_seed(1)
        momentum = {n: 0.01 * torch.randn(p.shape, generator=generator) for n, p in state.parameters.items()}
        self.state = StepState(state.parameters, momentum, state.statistics)
        self.frames = torch.from_numpy(tiny.floats(BATCH, seed=1))

    def flat(self, section):
        named = getattr(self.state, section)
        if section == "statistics":
            return torch.cat([value for moments in named.values() for value in moments])
        return flatten(named, named)


@pytest.fixture
def make(tiny):
    return lambda normalisation, **changes: Made(tiny, normalisation, **changes)


def alike(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("normalisation", MODES)
def test_a_traced_step_computes_what_the_step_computes(make, normalisation):
    made = make(normalisation)
    traced = trace_step(made.step, made.state, torch.zeros_like(made.frames))
    expected = made.step(made.state, made.frames)

    names = traced.inputs[1:]
    results = dict(zip(traced.outputs, traced.graph(made.frames, *(made.flat(name) for name in names)), strict=True))

    observed = normalisation == "running"
    assert traced.inputs == ("frames", "parameters", "momentum", "statistics")[: 4 if observed else 3]
    told = ("logits", "entropy_nats", "kept", "l1", "moved", "next_parameters", "next_momentum", "seen")
    assert tuple(results) == told[: 8 if observed else 7]
    assert expected.moved, "the gate kept nothing: little is compared"
    alike(results["logits"], expected.logits)
    alike(results["entropy_nats"], expected.report["entropy_nats"])
    alike(results["l1"], expected.report["l1"])
    assert results["kept"].tolist() == expected.report["kept"].tolist()
    assert bool(results["moved"])
    alike(results["next_parameters"], flatten(expected.state.parameters, made.state.parameters))
    alike(results["next_momentum"], flatten(expected.state.momentum, made.state.parameters))
    if observed:
        alike(results["seen"], expected.seen)


def test_the_statistics_of_source_mode_are_constants(make):
    """Whatever device takes the graph, they are those of this state."""
    made = make("source")
    other = {name: (mean + 1, variance * 2) for name, (mean, variance) in made.state.statistics.items()}
    traced = trace_step(made.step, made.state._replace(statistics=other), made.frames)

    logits = traced.graph(made.frames, made.flat("parameters"), made.flat("momentum"))[0]

    alike(logits, made.step(made.state._replace(statistics=other), made.frames).logits)


@pytest.mark.parametrize("normalisation", MODES)
def test_a_traced_prediction_is_the_logits_alone(make, normalisation):
    made = make(normalisation)
    traced = trace_predict(made.step, made.state, torch.zeros_like(made.frames))

    (logits,) = traced.graph(made.frames, *(made.flat(name) for name in traced.inputs[1:]))

    assert traced.inputs == ("frames", "parameters", "statistics")[: 3 if normalisation == "running" else 2]
    assert traced.outputs == ("logits",)
    alike(logits, made.step.predict(made.state, made.frames))


def test_a_traced_observation_tells_what_is_seen_too(make):
    made = make("running")
    traced = trace_observe(made.step, made.state, torch.zeros_like(made.frames))

    found = traced.graph(made.frames, made.flat("parameters"), made.flat("statistics"))

    assert traced.inputs == ("frames", "parameters", "statistics")
    assert traced.outputs == ("logits", "seen")
    for value, expected in zip(found, made.step.observe(made.state, made.frames), strict=True):
        alike(value, expected)


@pytest.mark.parametrize("normalisation", ["running", "source"])
def test_frames_accumulated_one_by_one_and_one_update_are_the_step_frame_by_frame(make, normalisation):
    made = make(normalisation, frame_by_frame=True)
    accumulate = trace_accumulate(made.step, made.state, torch.zeros_like(made.frames[:1]))
    update = trace_update(made.step, made.state)
    expected = made.step(made.state, made.frames)

    vector = made.flat("parameters")
    sums = {"entropy_gradient": torch.zeros_like(vector), "l1_gradient": torch.zeros_like(vector)}
    now = {"parameters": vector, **sums, "statistics": made.flat("statistics")}
    kept, seen = [], []
    for frame in made.frames.split(1):
        found = accumulate.graph(frame, *(now[name] for name in accumulate.inputs[1:]))
        results = dict(zip(accumulate.outputs, found, strict=True))
        now |= {name.removeprefix("next_"): value for name, value in results.items() if name.startswith("next_")}
        kept.append(results["kept"])
        seen += [results["seen"]] if "seen" in results else []
    counts = {"kept_count": torch.cat(kept).sum().float(), "frame_count": torch.tensor(float(BATCH))}
    spent = {**now, **counts, "momentum": made.flat("momentum")}
    moved, parameters, momentum = update.graph(*(spent[name] for name in update.inputs))

    assert bool(moved) and expected.moved
    assert bool(seen) == (normalisation == "running")
    if seen:
        alike(torch.cat(seen), expected.seen)
    assert torch.cat(kept).tolist() == expected.report["kept"].tolist()
    alike(parameters, flatten(expected.state.parameters, made.state.parameters))
    alike(momentum, flatten(expected.state.momentum, made.state.parameters))


@pytest.mark.parametrize(("lr_batch", "share"), [(None, 1.0), (8, 0.5), (2, 1.0)])
def test_every_input_of_an_update_has_a_say_of_its_own(make, lr_batch, share):
    """Recorded with one tensor for two arguments, a graph would read the one for the other."""
    made = make("source", frame_by_frame=True, lr_batch=lr_batch)
    traced = trace_update(made.step, made.state)
    rng = np.random.default_rng(0)
    vectors = [torch.from_numpy(rng.normal(size=made.flat("parameters").shape).astype(np.float32)) for _ in range(4)]
    parameters, momentum, entropy, l1 = vectors

    moved, after, velocity = traced.graph(*vectors, torch.tensor(3.0), torch.tensor(4.0))
    still = traced.graph(*vectors, torch.tensor(0.0), torch.tensor(4.0))

    expected = made.options.sgd_momentum * momentum + entropy / 3 + l1 / 4
    assert bool(moved)
    alike(velocity, expected)
    alike(after, parameters - share * made.options.lr * expected)
    assert not bool(still[0])
    assert torch.equal(still[1], parameters) and torch.equal(still[2], momentum)


def test_a_recomputed_segment_waits_for_its_gradient(make):
    """Only exact gradients through batch statistics are worth computing a segment twice, and not those of all parts."""
    made = make("batch")
    everywhere = replace(made.options, keep_parts=0)
    nowhere = replace(made.options, keep_parts=len(made.network.meta_groups))
    constant = replace(made.options, frozen_gradient="constant")

    def held(options):
        traced = trace_step(Step(made.network, options), made.state, made.frames)
        return sum("hold_back" in str(node.target) for node in traced.graph.graph.nodes)

    assert held(everywhere) > held(nowhere) == held(constant)


def test_nothing_in_a_trace_requires_a_gradient(make):
    made = make("running")
    traced = trace_step(made.step, made.state, made.frames)

    results = traced.graph(made.frames, *(made.flat(name) for name in traced.inputs[1:]))

    assert not any(value.requires_grad for value in results)


@pytest.mark.parametrize("normalisation", MODES)
def test_what_is_recorded_is_the_same_whether_it_is_computed_or_not(make, normalisation, monkeypatch):
    made = make(normalisation)
    computed = trace_step(made.step, made.state, torch.zeros_like(made.frames))
    monkeypatch.setattr(module, "_FEW", 0)
    monkeypatch.setattr(module, "_NEEDS_NUMBERS", ())
    recorded = trace_step(made.step, made.state, torch.zeros_like(made.frames))

    assert recorded.graph.code == computed.graph.code
    constants = dict(computed.graph.named_parameters()) | dict(computed.graph.named_buffers())
    found = dict(recorded.graph.named_parameters()) | dict(recorded.graph.named_buffers())
    assert found.keys() == constants.keys() and constants
    assert all(torch.equal(found[name], value) for name, value in constants.items())


def test_a_network_whose_numbers_say_a_shape_is_computed_while_it_is_recorded(monkeypatch):
    monkeypatch.setattr(module, "_FEW", 0)
    weight = torch.tensor([1.5, 0.0, 2.0])

    traced = module._trace(lambda frames: frames[:, torch.nonzero(weight)[:, 0]], torch.zeros(1, 3))

    assert traced(torch.tensor([[4.0, 5.0, 6.0]])).tolist() == [[4.0, 6.0]]
