from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecotta_rt.adapt.adaptation import Adaptation, Recipe
from ecotta_rt.adapt.channels import Channels, Moments
from ecotta_rt.adapt.class_tables import measure_classes
from ecotta_rt.adapt.follower import Followed
from ecotta_rt.adapt.places import Key
from ecotta_rt.errors import UsageError
from ecotta_rt.options import AdaptationOptions

CHANNELS = Channels.of([("a.mean", 3), ("a.variance", 3), ("b.mean", 2), ("b.variance", 2)])
CLASSES = 4


def stream(count, seed=0):
    """Probabilities and what is seen."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 3, (count, CLASSES))
    probabilities = (np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)).astype(np.float32)
    seen = rng.normal(size=(count, 10))
    seen[:, CHANNELS.variances] = rng.uniform(0.5, 2, (count, 5))
    return probabilities, seen.astype(np.float32)


@pytest.fixture(scope="module")
def recipe():
    _, seen = stream(40, 5)
    tables = measure_classes([(seen, np.eye(CLASSES, dtype=np.float32)[np.arange(40) % CLASSES])], CHANNELS)
    return Recipe(
        AdaptationOptions(places=2), CLASSES, Followed(CHANNELS, seen[0], np.full(5, 0.01, np.float32), tables)
    )


def play(adaptation, batches):
    answers = []
    for probabilities, seen in batches:
        answers.append(adaptation.filter(probabilities))
        assert adaptation.follow(seen, answers[-1])
    return answers


@given(cut=st.integers(0, 20), seed=st.integers(0, 99), batch=st.sampled_from([1, 4]))
def test_a_stream_that_is_saved_and_taken_up_goes_on_bit_for_bit(recipe, cut, seed, batch):
    whole, first, second = Adaptation(recipe), Adaptation(recipe), Adaptation(recipe)
    batches = [[part[start : start + batch] for part in stream(20, seed)] for start in range(0, 20, batch)]

    answers = play(whole, batches)
    before = play(first, batches[: cut // batch])
    second.restore(first.statistics, first.arrays())
    after = play(second, batches[cut // batch :])

    assert np.array_equal(np.concatenate(answers), np.concatenate([*before, *after]))
    assert np.array_equal(second.statistics, whole.statistics)
    assert all(np.array_equal(array, whole.arrays()[name]) for name, array in second.arrays().items())


def test_the_statistics_are_one_array_that_graphs_may_keep_reading(recipe):
    adaptation = Adaptation(recipe)
    statistics = adaptation.statistics

    play(adaptation, [stream(3)])
    moved = statistics.copy()
    adaptation.restore(recipe.followed.source, {})

    assert adaptation.statistics is statistics
    assert not np.array_equal(moved, recipe.followed.source)
    assert np.array_equal(statistics, recipe.followed.source)


def test_cameras_of_one_recipe_know_nothing_of_each_other(recipe):
    one, other = Adaptation(recipe), Adaptation(recipe)
    play(one, [stream(9)])

    assert np.array_equal(other.statistics, recipe.followed.source)
    assert np.array_equal(other.filter(stream(1, 3)[0]), Adaptation(recipe).filter(stream(1, 3)[0]))


def test_without_statistics_that_follow_answers_are_filtered_all_the_same(recipe):
    probabilities, seen = stream(6)
    alone = Adaptation(replace(recipe, followed=None))

    filtered = alone.filter(probabilities)

    assert np.array_equal(filtered, Adaptation(recipe).filter(probabilities))
    assert alone.follow(seen, filtered)
    assert alone.statistics is None


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_batch_with_a_frame_that_does_not_come_out_finite_moves_no_statistics(recipe, bad):
    probabilities, seen = stream(3)
    seen[1, 4] = bad
    adaptation = Adaptation(recipe)

    assert not adaptation.follow(seen, probabilities)
    assert np.array_equal(adaptation.statistics, recipe.followed.source)
    assert all(np.isfinite(array).all() for array in adaptation.arrays().values())


def test_without_class_tables_the_plain_rule_follows(recipe):
    _, seen = stream(2)
    options = AdaptationOptions(statistics="plain", leak=0.0)
    plain = Adaptation(Recipe(options, CLASSES, replace(recipe.followed, tables=None)))

    play(plain, [stream(2)])

    source = recipe.followed.source[CHANNELS.means]
    first = source + 0.01 * (seen[0][CHANNELS.means] - source)
    assert plain.statistics[CHANNELS.means] == pytest.approx(first + 0.01 * (seen[1][CHANNELS.means] - first), abs=1e-5)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda arrays: arrays.pop("filter.trusts"), "filter.trusts is in only one of state and bundle"),
        (lambda arrays: arrays.update(more=np.zeros(1, np.float32)), "adaptation/more is in only one"),
        (lambda arrays: arrays.update({"filter.beliefs": np.ones(3, np.float32)}), r"filter.beliefs is \[3\]"),
        (lambda arrays: arrays.update({"filter.beliefs": np.ones((2, 4), np.float32)}), "no distribution"),
    ],
)
def test_what_was_saved_with_something_else_is_refused_and_all_stays_as_it_was(recipe, change, what):
    adaptation = Adaptation(recipe)
    play(adaptation, [stream(5)])
    arrays, statistics = adaptation.arrays(), adaptation.statistics.copy()
    change(arrays)

    with pytest.raises(UsageError, match=what):
        adaptation.restore(recipe.followed.source, arrays)

    assert np.array_equal(adaptation.statistics, statistics)


@pytest.mark.parametrize("now", [0, 3])
def test_a_state_of_another_number_of_places_loses_these_alone(recipe, now):
    before, recipe = Adaptation(with_key(recipe)), with_key(recipe)
    play(before, [stream(30)])
    after = Adaptation(replace(recipe, options=replace(recipe.options, places=now)))
    anew = {name: array for name, array in after.arrays().items() if name.startswith("places.")}

    assert not after.restore(before.statistics, before.arrays())

    assert np.array_equal(after.statistics, before.statistics)
    found = after.arrays()
    kept = {name: array for name, array in before.arrays().items() if name.startswith("filter.")}
    assert kept
    assert all(np.array_equal(found[name], array) for name, array in {**kept, **anew}.items())
    assert after.restore(before.statistics, after.arrays())


def test_statistics_of_another_network_are_refused(recipe):
    with pytest.raises(UsageError, match="of another network"):
        Adaptation(recipe).restore(np.zeros(3, np.float32), {})


def with_key(recipe):
    _, seen = stream(40, 5)
    moments, first = CHANNELS.moments(seen.T), CHANNELS.part("a")
    key = Key.measured("a", Moments(moments.means[first].T, moments.variances[first].T))
    return replace(recipe, followed=replace(recipe.followed, key=key))


@pytest.mark.parametrize("how", ["logits", "seen", "overflow", "elsewhere"])
def test_a_batch_with_a_frame_that_is_not_finite_moves_nothing_at_all(recipe, how):
    adaptation = Adaptation(replace(with_key(recipe), options=AdaptationOptions(statistics="plain", places=2)))
    play(adaptation, [stream(5)])
    statistics, arrays = adaptation.statistics.copy(), adaptation.arrays()
    probabilities, seen = stream(4, 8)
    if how == "logits":
        probabilities[2] = np.nan
    elif how == "seen":
        seen[2, 0] = np.inf
    elif how == "overflow":  # at the second norm, so that its place is told
        seen[2, 6] = 3e38

    filtered, moved = adaptation.take(probabilities, seen, finite=how not in ("logits", "elsewhere"))

    assert not moved
    good = np.isfinite(probabilities).all(axis=1)
    assert filtered[good].sum(axis=1) == pytest.approx(1)
    assert np.array_equal(adaptation.statistics, statistics)
    assert all(np.array_equal(array, arrays[name]) for name, array in adaptation.arrays().items())


def test_a_batch_is_taken_as_it_is_filtered_and_followed(recipe):
    one, other = Adaptation(with_key(recipe)), Adaptation(with_key(recipe))
    (answers,) = play(one, [stream(6)])

    filtered, moved = other.take(*stream(6))

    assert moved
    assert np.array_equal(filtered, answers)
    assert np.array_equal(other.statistics, one.statistics)


def test_a_frame_too_large_to_tell_its_place_moves_nothing_and_is_not_remembered(recipe):
    adaptation = Adaptation(with_key(recipe))
    play(adaptation, [stream(5)])
    statistics, arrays = adaptation.statistics.copy(), adaptation.arrays()

    assert adaptation.follow(np.full((1, 10), 3e38, np.float32), stream(1)[0])

    assert np.array_equal(adaptation.statistics, statistics)
    assert all(np.array_equal(array, arrays[name]) for name, array in adaptation.arrays().items())
