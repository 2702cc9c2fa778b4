"""What the engine does without gradients, against the same done by hand with torch and `ecotta_rt.adapt`."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from ecotta_rt.adapt.adaptation import Adaptation
from ecotta_rt.adapt.channels import Channels
from ecotta_rt.adapt.class_tables import measure_classes
from ecotta_rt.bundle import read_bundle
from ecotta_rt.errors import InputFileError, UsageError
from ecotta_rt.exporter.export import compile_graphs
from ecotta_rt.exporter.request import ExportOptions
from ecotta_rt.method.state import initial_state, to_adapt_state
from ecotta_rt.method.step import Step
from ecotta_rt.options import AdaptationOptions
from ecotta_rt.runtime.engine import Runtime
from ecotta_rt.runtime.recipe import adaptation_options, recipe_of, signs_recipe_of
from ecotta_rt.state import AdaptState, FramesBehind

CLASSES = 5


@pytest.fixture(scope="module")
def seen_by_torch(tiny):
    """Logits and each frame's statistics, from a vector of statistics and frames."""
    network = tiny.network()
    step, start = Step(network, tiny.options("running")), initial_state(network)

    def observe(frames, statistics=None):
        floats = torch.from_numpy(np.ascontiguousarray(frames.transpose(0, 3, 1, 2)).astype(np.float32) / 255)
        state = start if statistics is None else start.with_vectors(statistics=torch.from_numpy(statistics.copy()))
        logits, seen = step.observe(state, floats)
        return logits.numpy(), seen.numpy()

    return observe


@pytest.fixture(scope="module")
def with_recipe(tiny, seen_by_torch, tmp_path_factory):
    """Makes a tiny bundle with a recipe, by options that differ from the defaults."""
    network = tiny.network()
    state = to_adapt_state(initial_state(network), network.digest())
    step = tiny.options("running")
    options = ExportOptions(model="tiny", classes=["ant", "bee", "cat", "dog", "elk"], batches=(1, 4), step=step)
    folder = tmp_path_factory.mktemp("recipe")
    compiled = compile_graphs(network, state, folder / "tiny.ecotta", options)
    channels = Channels.of([(array.name, array.count) for array in compiled.contents["layout"].statistics])
    labels = np.eye(CLASSES, dtype=np.float32)[np.arange(60) % CLASSES]
    tables = measure_classes([(seen_by_torch(tiny.frames(60, 3))[1], labels)], channels).arrays()

    def make(**changes):
        path = folder / f"{abs(hash(tuple(changes.items())))}.ecotta"
        compiled.write(path, state, vars(AdaptationOptions(**{"momentum": 0.1, **changes})), tables)
        return path

    return make


def softmax(logits):
    exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponents / exponents.sum(axis=1, keepdims=True)


def by_hand(path, observe, batches):
    """Filtered answers and the statistics after them."""
    bundle = read_bundle(path)
    adaptation = Adaptation(recipe_of(bundle, adaptation_options(bundle.manifest)))
    answers = []
    for frames in batches:
        logits, seen = observe(frames, adaptation.statistics)
        answers.append(adaptation.filter(softmax(logits)))
        assert adaptation.follow(seen, answers[-1])
    return answers, adaptation


@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("rule", ["de-classed", "plain"])
def test_by_default_it_observes_follows_and_filters_and_learns_nothing(tiny, with_recipe, seen_by_torch, rule, batch):
    path = with_recipe(statistics=rule)
    runtime = Runtime.load(path, batch=batch)
    batches = [tiny.frames(batch, seed) for seed in range(6)]
    answers, adaptation = by_hand(path, seen_by_torch, batches)

    predictions = [runtime(frames) for frames in batches]

    assert runtime.graph is None
    assert {prediction.why for prediction in predictions} == {"off"}
    for prediction, expected in zip(predictions, answers, strict=True):
        assert prediction.filtered == pytest.approx(expected, abs=1e-4)
        assert np.array_equal(prediction.probabilities, prediction.filtered)
        assert prediction.labels.tolist() == expected.argmax(axis=1).tolist()
    assert runtime.adaptation.statistics == pytest.approx(adaptation.statistics, abs=1e-4)
    assert not np.array_equal(adaptation.statistics, adaptation.recipe.followed.source)


def test_the_answer_may_be_the_networks_own(tiny, with_recipe):
    filtered, own = (Runtime.load(with_recipe(), answer=answer) for answer in ("filtered", "unfiltered"))
    for seed in range(8):
        one, other = filtered(tiny.frames(1, seed)), own(tiny.frames(1, seed))

        assert np.array_equal(one.unfiltered, other.probabilities)
        assert np.array_equal(one.probabilities, other.filtered)


def test_a_run_that_is_saved_and_taken_up_goes_on_bit_for_bit(tiny, with_recipe, tmp_path):
    path, file = with_recipe(places=2), tmp_path / "s.safetensors"
    whole, first, second = (Runtime.load(path) for _ in range(3))
    stream = [tiny.frames(1, seed) for seed in range(8)]

    expected = [whole(frames).filtered for frames in stream]
    found = [first(frames).filtered for frames in stream[:5]]
    first.save_state(file)
    second.restore(file)
    found += [second(frames).filtered for frames in stream[5:]]

    assert np.array_equal(found, expected)
    assert second.state.to_bytes() == whole.state.to_bytes()
    second.reset()
    assert np.array_equal(second(stream[0]).filtered, expected[0])


def test_a_state_says_how_many_frames_have_made_it(tiny, with_recipe, tmp_path):
    runtime = Runtime.load(with_recipe(learning="on"), batch=4)
    assert runtime.state.behind == FramesBehind()
    steps = [runtime(tiny.frames(4, seed)) for seed in range(3)]
    learned = sum(int(step.kept.sum()) for step in steps if step.adapted)
    assert learned > 0

    runtime.predict(tiny.frames(4), count=3)
    runtime.predict(tiny.frames(4), hold_statistics=True)

    assert runtime.state.behind == FramesBehind(4 * 3 + 3, learned)
    runtime.save_state(tmp_path / "s.safetensors")
    other = Runtime.load(with_recipe(learning="on"), batch=4)
    other.restore(tmp_path / "s.safetensors")
    other.predict(tiny.frames(4))
    assert other.state.behind == FramesBehind(4 * 3 + 3 + 4, learned)
    other.reset()
    assert other.state.behind == FramesBehind()


def test_what_was_not_taken_up_is_not_counted(with_recipe, tiny, beyond_range):
    runtime = Runtime.load(with_recipe())

    assert runtime(np.full((1, 3, 8, 8), 3e38, np.float32)).why == "not-finite"

    assert runtime.state.behind == FramesBehind()


@pytest.mark.parametrize("learning", ["off", "on"])
def test_streams_take_turns_bit_for_bit_as_runtimes_of_their_own(tiny, with_recipe, learning):
    path = with_recipe(learning=learning)
    shared, *alone = (Runtime.load(path, batch=4) for _ in range(3))
    streams, learned = [shared.stream, shared.new_stream()], []

    for step, turn in enumerate([0, 1, 1, 0, 0, 1, 0, 1]):
        frames = tiny.frames(4, seed=step)
        shared.use(streams[turn])
        expected, found = alone[turn](frames), shared(frames)

        assert found.adapted == expected.adapted
        assert np.array_equal(found.filtered, expected.filtered)
        learned += [turn] if found.adapted else []
    assert {*learned} == ({0, 1} if learning == "on" else set())
    for stream, own in zip(streams, alone, strict=True):
        shared.use(stream)
        assert shared.state.to_bytes() == own.state.to_bytes()
    assert shared.state.to_bytes() != alone[0].state.to_bytes()


@pytest.mark.parametrize("learning", ["off", "on"])
def test_a_stream_is_restored_saved_and_reset_and_the_others_stay(tiny, with_recipe, learning):
    path = with_recipe(learning=learning)
    learner, shared = Runtime.load(path, batch=4, adapt=True), Runtime.load(path, batch=4)
    door, yard, first = shared.stream, shared.new_stream(), shared.state.to_bytes()
    learner(tiny.frames())
    taught = learner.state

    shared.use(yard)
    shared.restore(taught)

    assert shared.state.to_bytes() == taught.to_bytes()
    shared.use(door)
    assert shared.state.to_bytes() == first
    shared(tiny.frames())
    moved = shared.state.to_bytes()
    shared.use(yard)
    assert shared.state.to_bytes() == taught.to_bytes()
    shared.reset()
    assert shared.state.to_bytes() == first
    shared.use(door)
    assert shared.state.to_bytes() == moved


def test_streams_of_different_parameters_are_each_answered_with_their_own(tiny, with_recipe):
    """Of graphs that hold the parameters as constants, too."""
    path = with_recipe(learning="on")
    learner, shared, alone = (Runtime.load(path, batch=4, adapt=adapt) for adapt in (True, False, False))
    learner(tiny.frames())
    door, yard = shared.stream, shared.new_stream()
    for runtime in (shared, alone):
        runtime.restore(learner.state)

    for seed in range(3):
        found = shared.predict(tiny.frames(seed=seed))
        shared.use(yard)
        other = shared.predict(tiny.frames(seed=seed))
        shared.use(door)

        assert found.unfiltered == pytest.approx(alone.predict(tiny.frames(seed=seed)).unfiltered, abs=1e-6)
        assert np.abs(found.unfiltered - other.unfiltered).max() > 1e-6


def test_what_is_no_stream_of_this_runtime_is_refused(with_recipe):
    runtime, other = Runtime.load(with_recipe()), Runtime.load(with_recipe())

    with pytest.raises(UsageError, match="of another Runtime"):
        runtime.use(other.new_stream())
    with pytest.raises(UsageError, match=r"use\(\) takes a Stream, not NoneType; see new_stream\(\)"):
        runtime.use(None)


def test_two_views_are_the_mean_of_both_probabilities(tiny, with_recipe, seen_by_torch):
    frames = tiny.frames(4)
    (one, seen), (other, seen_too) = seen_by_torch(frames), seen_by_torch(frames[:, :, ::-1])
    runtime = Runtime.load(with_recipe(), batch=4, views=2)

    prediction = runtime(frames)

    assert prediction.unfiltered == pytest.approx((softmax(one) + softmax(other)) / 2, abs=1e-5)
    by_hand = Adaptation(runtime.adaptation.recipe)
    by_hand.follow((seen + seen_too) / 2, prediction.filtered)
    assert runtime.adaptation.statistics == pytest.approx(by_hand.statistics, abs=1e-4)


def test_two_views_are_answered_and_one_is_learned_from(tiny, with_recipe):
    learning = Runtime.load(with_recipe(learning="on", views=2), batch=4)
    one_view = Runtime.load(with_recipe(learning="on"), batch=4)
    answering = Runtime.load(with_recipe(views=2), batch=4)

    prediction = learning(tiny.frames(4))
    one_view(tiny.frames(4))

    assert prediction.adapted
    assert prediction.unfiltered == pytest.approx(answering(tiny.frames(4)).unfiltered, abs=1e-5)
    for name, array in learning.state.parameters.items():
        assert np.array_equal(array, one_view.state.parameters[name])


def test_frames_that_only_fill_a_batch_move_nothing(tiny, with_recipe):
    one, other = (Runtime.load(with_recipe(), batch=4) for _ in range(2))
    frames = tiny.frames(4)

    one.predict(frames, count=2)
    other.predict(frames[[0, 1, 0, 1]], count=2)

    assert np.array_equal(one.adaptation.statistics, other.adaptation.statistics)
    assert all(np.array_equal(array, other.state.adaptation[name]) for name, array in one.state.adaptation.items())


def test_held_statistics_stay_and_answers_are_filtered_all_the_same(tiny, with_recipe):
    runtime = Runtime.load(with_recipe())
    before = runtime.adaptation.statistics.copy()

    runtime.predict(tiny.frames(1), hold_statistics=True)

    assert np.array_equal(runtime.adaptation.statistics, before)
    assert runtime.state.adaptation["filter.beliefs"].max() > 1 / CLASSES


def test_a_state_that_was_saved_with_other_options_is_refused_with_the_reason(with_recipe):
    runtime = Runtime.load(with_recipe())
    foreign = replace(runtime.state, adaptation={"filter.beliefs": np.ones(3, np.float32) / 3})

    with pytest.raises(InputFileError, match="was saved with other options"):
        runtime.restore(foreign)


def test_a_state_from_before_there_was_a_filter_is_taken_up(tiny, with_recipe, tmp_path):
    runtime = Runtime.load(with_recipe())
    runtime(tiny.frames(1))
    replace(runtime.state, adaptation={}).save(tmp_path / "old.safetensors")
    moved = runtime.adaptation.statistics.copy()

    runtime.restore(tmp_path / "old.safetensors")

    assert AdaptState.load(tmp_path / "old.safetensors").adaptation == {}
    assert np.array_equal(runtime.adaptation.statistics, moved)
    assert runtime.state.adaptation["filter.beliefs"] == pytest.approx(1 / CLASSES)


def test_an_adaptation_that_cannot_be_meant_is_a_bad_bundle(with_recipe):
    manifest = read_bundle(with_recipe()).manifest

    with pytest.raises(InputFileError, match="leek=1 is no option"):
        adaptation_options(replace(manifest, adaptation={"leek": 1}))
    assert adaptation_options(replace(manifest, adaptation={})) == AdaptationOptions(
        statistics="plain", leak=0.0, answer="unfiltered", learning="on"
    )


def test_signs_are_read_by_the_bundles_gate_and_source(with_recipe):
    runtime = Runtime.load(with_recipe(answer="unfiltered"))
    recipe = runtime.signs_recipe

    assert (recipe.classes, recipe.gate, recipe.answer, recipe.temperature) == (CLASSES, 0.4, "unfiltered", None)
    assert recipe.source.distance(runtime.adaptation.statistics) == 0


@pytest.mark.parametrize("text", ["hot", "0", "nan", "-1"])
def test_a_temperature_that_is_none_is_refused(with_recipe, text):
    manifest = read_bundle(with_recipe()).manifest
    recipe = recipe_of(read_bundle(with_recipe()), adaptation_options(manifest))

    assert signs_recipe_of(replace(manifest, metadata={"answer_temperature": "1.5"}), recipe).temperature == 1.5
    with pytest.raises(InputFileError, match="answer_temperature"):
        signs_recipe_of(replace(manifest, metadata={"answer_temperature": text}), recipe)
