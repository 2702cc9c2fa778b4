"""Figures of a stream, worked out by hand."""

import numpy as np
import pytest

from ecotta_rt.bench.streams import plan_stream
from ecotta_rt.bench.streams.figures import score

LABELS = np.arange(200) % 4


def test_the_first_frames_after_each_change_are_counted_alone():
    plan = plan_stream("continual", LABELS, ("fog", "contrast"), 150)
    answers = plan.labels.copy()
    answers[:30] += 1  # 30 of the first 50 of fog
    answers[150 + 60 : 150 + 90] += 1  # 30 of contrast, none among the first 50

    errors = score(plan, answers)

    assert errors.error_percent == 20.0
    assert errors.by_corruption == {"fog": 20.0, "contrast": 20.0}
    assert (errors.after_change.first_50, errors.after_change.first_100) == (30.0, 30.0)
    assert (errors.by_visit, errors.by_part) == ({}, {})
    assert errors.windows == (30, 0, 30)


def test_garbage_is_not_counted_anywhere():
    plan = plan_stream("garbage", LABELS, ("fog",), 70)
    answers = np.where(plan.valid, plan.labels, 3)

    errors = score(plan, answers)

    assert errors.error_percent == 0
    assert sum(errors.windows) == 0
    assert errors.after_change.frames == 70


def test_visits_and_parts_have_figures_of_their_own():
    plan = plan_stream("recurring", LABELS, ("fog", "contrast"), 100)
    last = plan.spans[-1]
    answers = plan.labels.copy()
    answers[last.start : last.stop] += 1

    errors = score(plan, answers)

    assert [errors.by_visit[number].error_percent for number in ("1", "19", "20")] == [0, 0, 50.0]
    assert errors.by_part["visit 20"] == errors.by_visit["20"]
    assert errors.by_visit["20"].frames == 20
    assert errors.error_percent == pytest.approx(2.5)


def test_errors_are_told_by_how_long_a_class_has_been_there():
    plan = plan_stream("sorted", LABELS, ("fog",), 200)
    answers = plan.labels.copy()
    answers[plan.since_class_change() == 0] += 1

    errors = score(plan, answers)

    assert errors.since_class_change == {"0": 100.0, "1-2": 0.0, "3-9": 0.0, "10+": 0.0}
    assert errors.error_percent == 2.0
