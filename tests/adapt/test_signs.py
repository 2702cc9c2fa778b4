import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ecotta_rt.adapt.channels import Channels
from ecotta_rt.adapt.filter import AnswerFilter
from ecotta_rt.adapt.signs import SignsRecipe, Source, StreamSigns, entropies, usable_gate
from ecotta_rt.errors import UsageError

CERTAIN, EVEN, LIKELY = [1.0, 0.0, 0.0], [1 / 3, 1 / 3, 1 / 3], [0.1, 0.8, 0.1]

anything = st.sampled_from([0.0, 1.0, 0.5, -1.0, 1e-30, 1e30, math.nan, math.inf, -math.inf])


def told(rows, filtered=None, **options):
    signs = StreamSigns(SignsRecipe(3, **options))
    rows = np.array(rows, np.float32)
    signs.take(rows, rows if filtered is None else np.array(filtered, np.float32))
    return signs.told(len(rows) - 1)


def likely_entropy():
    return -(0.8 * math.log(0.8) + 0.2 * math.log(0.1)) / math.log(3)


def test_at_first_all_is_a_plain_mean():
    signs = told([CERTAIN, EVEN, LIKELY, CERTAIN])

    assert signs.frames == 4
    assert signs.entropy == pytest.approx((1 + likely_entropy()) / 4, rel=1e-6)
    assert signs.certain == pytest.approx(2 / 4)  # the entropy of LIKELY is 0.58
    assert signs.concentration == pytest.approx((3 / 4) ** 2 + (1 / 4) ** 2)  # EVEN counts for the first class


def test_old_frames_fade():
    # Memory 2: 1, then 1/2, then 1/4 of the certain frame is left.
    assert told([CERTAIN, EVEN, EVEN], memory=2).certain == pytest.approx(1 / 4)


def test_classes_are_those_of_the_filtered_answers():
    assert told([CERTAIN, LIKELY], [CERTAIN, CERTAIN]).concentration == pytest.approx(1)


def test_the_gate_is_a_share_of_the_largest_entropy():
    assert told([LIKELY], gate=0.57).certain == 0
    assert told([LIKELY], gate=0.59).certain == 1


def test_frames_that_are_no_distribution_are_uncertain_and_answer_nothing():
    signs = told([CERTAIN, [math.nan, 0, 1]])

    assert (signs.frames, signs.certain, signs.broken, signs.concentration) == (2, 0.5, 0.5, 1)
    assert signs.entropy == pytest.approx(0.5)


def test_before_any_frame_nothing_is_concentrated():
    signs = StreamSigns(SignsRecipe(4)).told(0)

    assert (signs.frames, signs.entropy, signs.certain, signs.concentration) == (0, 0, 0, 0.25)
    assert signs.distance is signs.disagreement is signs.expected_error is None


def test_where_the_frozen_network_says_something_else_is_counted_and_whether_it_is_certain_of_it():
    signs = StreamSigns(SignsRecipe(3))
    for frozen in (CERTAIN, LIKELY, [0.0, 0.0, 1.0], [0.0, 1.0, 0.0]):
        signs.compare(np.array(CERTAIN, np.float32), np.array(frozen, np.float32))

    event = signs.told(9)
    assert event.disagreement == pytest.approx(3 / 4)
    assert event.contradiction == pytest.approx(2 / 4)
    assert event.frozen_concentration == pytest.approx((1 / 4) ** 2 + (2 / 4) ** 2 + (1 / 4) ** 2)


def test_an_answer_that_is_none_contradicts_and_a_frozen_one_that_is_none_tells_nothing():
    signs, broken = StreamSigns(SignsRecipe(3)), np.full(3, math.nan, np.float32)
    signs.compare(broken, np.array(CERTAIN, np.float32))
    signs.compare(np.array(CERTAIN, np.float32), broken)

    assert (signs.compared, signs.told(9).contradiction) == (1, 1)


def test_the_expected_error_is_the_doubt_of_a_filter_at_the_right_temperature():
    rows = np.array([[0.9, 0.05, 0.05], [0.6, 0.3, 0.1], [0.1, 0.8, 0.1]], np.float32)
    answers = AnswerFilter(3)(rows)
    beliefs = AnswerFilter(3, temperatures=(2.0,))(rows)
    labels = answers.argmax(axis=1)

    signs = StreamSigns(SignsRecipe(3, temperature=2.0))
    signs.take(rows, answers)

    assert signs.told(2).expected_error == pytest.approx(1 - beliefs[np.arange(3), labels].mean(), rel=1e-6)


def test_the_expected_error_of_answers_that_are_not_filtered_is_that_of_each_alone():
    rows = np.array([[0.9, 0.05, 0.05], [0.6, 0.3, 0.1]], np.float32)
    heated = np.sqrt(rows) / np.sqrt(rows).sum(axis=1, keepdims=True)

    signs = StreamSigns(SignsRecipe(3, temperature=2.0, answer="unfiltered"))
    signs.take(rows, AnswerFilter(3)(rows))

    assert signs.told(1).expected_error == pytest.approx(1 - heated.max(axis=1).mean(), rel=1e-6)
    assert signs.told(1).confidence == pytest.approx(0.75)


def two_norms():
    """The vector is the means of `a` and its variances, then those of `b`."""
    channels = Channels.of([("a.mean", 2), ("a.variance", 2), ("b.mean", 1), ("b.variance", 1)])
    return Source(channels, np.array([0, 1, 4, 1, 2, 9], np.float32))


def test_distance_is_the_mean_over_norms_in_deviations_of_the_source():
    now = np.array([2, 1, 7, 7, 8, 7], np.float32)  # of a: 1 and 0 deviations; of b: 2

    signs = StreamSigns(SignsRecipe(3, source=two_norms())).told(0, now)

    assert signs.distance == pytest.approx((math.sqrt(1 / 2) + 2) / 2)


def test_at_the_source_the_distance_is_none():
    assert two_norms().distance(two_norms().statistics) == 0


def test_the_distance_of_what_is_not_finite_is_infinite():
    assert two_norms().distance(np.array([math.nan, 1, 1, 1, 1, 1], np.float32)) == math.inf


@given(
    st.lists(arrays(np.float32, 4, elements=anything.map(np.float32)), min_size=1, max_size=8),
    st.integers(1, 5),
    st.sampled_from([None, 0.5, 2.0]),
)
def test_signs_are_finite_and_in_their_range_whatever_comes(rows, memory, temperature):
    signs = StreamSigns(SignsRecipe(4, memory=memory, temperature=temperature))
    signs.take(np.stack(rows), np.stack(rows)[::-1])
    event = signs.told(0)

    error = [] if temperature is None else [event.expected_error]
    for value in (event.entropy, event.certain, event.confidence, event.broken, *error):
        assert 0 <= value <= 1
    assert 1 / 4 - 1e-9 <= event.concentration <= 1 + 1e-9


@given(arrays(np.float64, (3, 5), elements=st.floats(0.01, 1)), st.floats(0.0, 1.0))
def test_nearer_to_the_uniform_distribution_is_never_more_certain(rows, share):
    rows = rows / rows.sum(axis=1, keepdims=True)
    flatter = share * rows + (1 - share) / 5

    assert (entropies(flatter) >= entropies(rows) - 1e-9).all()


@given(arrays(np.float32, (12, 3), elements=st.floats(0.0, 1.0, width=32)), st.integers(1, 11))
def test_batches_are_frames_one_after_the_other(rows, cut):
    whole, parts = StreamSigns(SignsRecipe(3, memory=4)), StreamSigns(SignsRecipe(3, memory=4))
    whole.take(rows, rows)
    for part in (rows[:cut], rows[cut:]):
        parts.take(part, part)

    assert whole.told(0) == parts.told(0)


@pytest.mark.parametrize(("margin", "gate"), [(0.4, 0.4), (0.2, 0.2), (1.0, 0.4), (0.0, 0.4)])
def test_a_gate_that_lets_all_through_is_none(margin, gate):
    assert usable_gate(margin) == gate


@pytest.mark.parametrize(
    "options", [{"classes": 1}, {"gate": 1.1}, {"gate": -1}, {"memory": 0}, {"samples": 0}, {"temperature": 0.0}]
)
def test_numbers_out_of_range_are_refused(options):
    with pytest.raises(UsageError):
        SignsRecipe(**{"classes": 3, **options})


def test_answers_for_other_classes_are_refused():
    with pytest.raises(UsageError, match="signs are for"):
        StreamSigns(SignsRecipe(3)).take(np.ones((1, 4), np.float32), np.ones((1, 4), np.float32))
