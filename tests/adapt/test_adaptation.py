from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecotta_rt.adapt.adaptation import Adaptation, Recipe
from ecotta_rt.adapt.channels import Channels
from ecotta_rt.adapt.class_tables import measure_classes
from ecotta_rt.adapt.follower import Followed
from ecotta_rt.errors import UsageError
from ecotta_rt.options import AdaptationOptions

CHANNELS = Channels.of([("a.mean", 3), ("a.variance", 3), ("b.mean", 2), ("b.variance", 2)])
CLASSES = 4


def stream(count, seed=0):
    """probabilities, entropy and what is seen."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 3, (count, CLASSES))
    probabilities = (np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)).astype(np.float32)
    entropy = -(probabilities * np.log(probabilities)).sum(axis=1)
    seen = rng.normal(size=(count, 10))
    seen[:, CHANNELS.variances] = rng.uniform(0.5, 2, (count, 5))
    return probabilities, entropy, seen.astype(np.float32)


@pytest.fixture(scope="module")
def recipe():
    _, _, seen = stream(40, 5)
    tables = measure_classes([(seen, np.eye(CLASSES, dtype=np.float32)[np.arange(40) % CLASSES])], CHANNELS)
    deep = np.array([False, False, False, True, True])
    return Recipe(AdaptationOptions(boost=4.0), CLASSES, Followed(CHANNELS, seen[0], deep, tables))


@given(cut=st.integers(0, 20), seed=st.integers(0, 99), batch=st.sampled_from([1, 4]))
def test_a_stream_that_is_saved_and_taken_up_goes_on_bit_for_bit(recipe, cut, seed, batch):
    cut -= cut % batch
    whole, first, second = Adaptation(recipe), Adaptation(recipe), Adaptation(recipe)
    batches = [[part[start : start + batch] for part in stream(20, seed)] for start in range(0, 20, batch)]

    answers = [whole.take(*each) for each in batches]
    before = [first.take(*each) for each in batches[: cut // batch]]
    second.restore(first.statistics, first.arrays())
    after = [second.take(*each) for each in batches[cut // batch :]]

    assert np.array_equal(np.concatenate(answers), np.concatenate([*before, *after]))
    assert np.array_equal(second.statistics, whole.statistics)
    assert all(np.array_equal(array, whole.arrays()[name]) for name, array in second.arrays().items())


def test_the_statistics_are_one_array_that_graphs_may_keep_reading(recipe):
    adaptation = Adaptation(recipe)
    statistics = adaptation.statistics

    adaptation.take(*stream(3))
    moved = statistics.copy()
    adaptation.restore(recipe.followed.source, {})

    assert adaptation.statistics is statistics
    assert not np.array_equal(moved, recipe.followed.source)
    assert np.array_equal(statistics, recipe.followed.source)


def test_cameras_of_one_recipe_know_nothing_of_each_other(recipe):
    one, other = Adaptation(recipe), Adaptation(recipe)
    one.take(*stream(9))

    assert np.array_equal(other.statistics, recipe.followed.source)
    assert np.array_equal(other.take(*stream(1, 3)), Adaptation(recipe).take(*stream(1, 3)))


def test_statistics_stay_where_nothing_was_seen_and_answers_are_filtered_all_the_same(recipe):
    probabilities, entropy, _ = stream(6)
    adaptation = Adaptation(recipe)

    filtered = adaptation.take(probabilities, entropy)

    assert np.array_equal(adaptation.statistics, recipe.followed.source)
    assert np.array_equal(filtered, Adaptation(Recipe(recipe.options, CLASSES)).take(probabilities, entropy))


def test_a_frame_whose_answer_is_not_finite_moves_nothing(recipe):
    probabilities, entropy, seen = stream(3)
    probabilities[1], entropy[1] = np.nan, np.nan
    good = [0, 2]
    one, other = Adaptation(recipe), Adaptation(recipe)

    filtered = one.take(probabilities, entropy, seen)

    assert np.array_equal(filtered[good], other.take(probabilities[good], entropy[good], seen[good]))
    assert np.isnan(filtered[1]).all()
    assert np.array_equal(one.statistics, other.statistics)


def test_uncertain_frames_leave_the_deep_norms_where_they_are(recipe):
    unsure = replace(recipe, options=replace(recipe.options, gate=0.0, leak=0.0))
    adaptation = Adaptation(unsure)

    adaptation.take(*stream(5))

    moved = adaptation.statistics != recipe.followed.source
    assert not moved[CHANNELS.means[3:]].any()
    assert moved[CHANNELS.means[:3]].all()


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda arrays: arrays.pop("filter.trust"), "filter.trust is in only one of state and bundle"),
        (lambda arrays: arrays.update(more=np.zeros(1, np.float32)), "adaptation/more is in only one"),
        (lambda arrays: arrays.update({"filter.belief": np.ones(3, np.float32)}), r"filter.belief is \[3\]"),
        (lambda arrays: arrays.update({"filter.belief": np.ones(4, np.float32)}), "no distribution"),
    ],
)
def test_what_was_saved_with_something_else_is_refused_and_all_stays_as_it_was(recipe, change, what):
    adaptation = Adaptation(recipe)
    adaptation.take(*stream(5))
    arrays, statistics = adaptation.arrays(), adaptation.statistics.copy()
    change(arrays)

    with pytest.raises(UsageError, match=what):
        adaptation.restore(recipe.followed.source, arrays)

    assert np.array_equal(adaptation.statistics, statistics)


def test_statistics_of_another_network_are_refused(recipe):
    with pytest.raises(UsageError, match="of another network"):
        Adaptation(recipe).restore(np.zeros(3, np.float32), {})
