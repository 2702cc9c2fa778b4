"""Doubt begins and ends where the signs say so, and a collapse is told from hard weather and from one class."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecotta_rt.daemon.doubts import DoubtLimits, Doubts
from ecotta_rt.daemon.returns import AGAIN_S, REST_S, Returns
from ecotta_rt.events import DoubtBegan, DoubtEnded, Signs

WELL = Signs(
    999,
    1000,
    entropy=0.1,
    certain=0.9,
    concentration=0.15,
    confidence=0.9,
    broken=0.0,
    disagreement=0.2,
    contradiction=0.1,
    frozen_concentration=0.15,
    expected_error=0.1,
)
HARD_WEATHER = replace(WELL, disagreement=0.8, contradiction=0.59, frozen_concentration=0.6, expected_error=0.4)
ONE_CLASS = replace(WELL, concentration=1.0, disagreement=0.5, contradiction=0.3)
COLLAPSED = replace(WELL, concentration=1.0, contradiction=0.7, expected_error=0.0, entropy=0.0)


def judged(*sequence, compared=30, limits=None):
    """The events of signs that follow each other by a minute, and the doubts after them."""
    doubts = Doubts(limits)
    return [
        event for minute, signs in enumerate(sequence) for event in doubts.judge(signs, compared, 60.0 * minute)
    ], doubts


def wrong(error):
    return replace(WELL, expected_error=error)


@pytest.mark.parametrize("signs", [WELL, HARD_WEATHER, ONE_CLASS, wrong(0.49)])
def test_what_happens_every_day_is_no_reason_to_doubt(signs):
    events, doubts = judged(signs)

    assert events == [] and doubts.collapsed is None and doubts.since_s is None


def test_doubt_begins_at_its_limit_and_ends_with_some_to_spare():
    events, _ = judged(wrong(0.49), wrong(0.5), wrong(0.46), wrong(0.52), wrong(0.44), wrong(0.49))

    assert [type(event) for event in events] == [DoubtBegan, DoubtEnded]
    assert events[0].why == "50% of the answers are wrong, as the signs have it, of at most 50%"
    assert events[1].lasted_s == 180


def test_where_nothing_is_calibrated_the_answers_doubt_themselves():
    signs = replace(WELL, expected_error=None, confidence=0.4)

    (began,), _ = judged(signs)

    assert began.why == "60% is how far the answers themselves are in doubt, of at most 50%"


def test_a_frozen_network_that_is_certain_of_others_is_doubted_and_is_no_collapse():
    signs = replace(HARD_WEATHER, contradiction=0.65)

    (began,), doubts = judged(signs)

    assert began.why == "the frozen network is certain of another class in 65% of the frames, of at most 60%"
    assert doubts.collapsed is None and judged(signs, compared=19)[0] == []


def test_a_collapse_is_doubted_and_said():
    (began,), doubts = judged(COLLAPSED)

    assert doubts.collapsed == began.why
    assert "certain of another class in 70% of the frames" in began.why


def test_answers_that_are_no_numbers_are_a_collapse():
    (began,), doubts = judged(replace(WELL, broken=0.6), compared=0)

    assert doubts.collapsed == began.why == "60% of the answers are no numbers, of at most 50%"


def test_a_collapse_that_is_over_is_none():
    events, doubts = judged(COLLAPSED, WELL)

    assert [type(event) for event in events] == [DoubtBegan, DoubtEnded] and doubts.collapsed is None


def test_little_was_seen_so_nothing_is_said():
    assert judged(replace(COLLAPSED, frames=99))[0] == []
    assert judged(COLLAPSED, compared=19)[0] == []
    assert judged(replace(COLLAPSED, contradiction=None, frozen_concentration=None), compared=0)[0] == []


shares = st.floats(0, 1)


@given(st.lists(st.builds(replace, st.just(WELL), contradiction=shares, concentration=shares, expected_error=shares)))
def test_doubts_begin_and_end_in_turn_and_a_collapse_is_always_doubted(sequence):
    doubts, begun = Doubts(), False
    for second, signs in enumerate(sequence):
        for event in doubts.judge(signs, 30, float(second)):
            assert isinstance(event, DoubtEnded if begun else DoubtBegan)
            begun = not begun
        assert (doubts.since_s is not None) == begun
        assert begun or doubts.collapsed is None


def test_limits_are_those_asked_for():
    assert judged(wrong(0.3), limits=DoubtLimits(most_error=0.25))[0] != []


def test_first_back_to_the_last_good_state_then_to_the_source_then_nowhere_for_a_day():
    returns = Returns()

    assert [returns.choose(t) for t in (0.0, 600.0, 1200.0, AGAIN_S)] == ["good", "source", None, None]
    assert returns.choose(600.0 + REST_S) == "good"


def test_who_does_not_want_it_never_goes_back():
    assert Returns(on=False).choose(0.0) is None


def test_a_collapse_long_after_a_return_is_a_new_one():
    returns = Returns()

    assert [returns.choose(t) for t in (0.0, AGAIN_S, 2 * AGAIN_S)] == ["good", "good", "good"]
