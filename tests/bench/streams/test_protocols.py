"""Every protocol keeps what its paper says, whatever the set, the corruptions and the seed."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecotta_rt.bench.streams import CLEAN, PROTOCOLS, Kind, plan_stream
from ecotta_rt.data.corruptions import CORRUPTIONS

CLASSES = 5
LABELS = np.random.default_rng(0).permutation(np.repeat(np.arange(CLASSES), 40))
TWO = ("fog", "contrast")


def counts(labels):
    return np.bincount(labels, minlength=CLASSES)


def shown(plan, span):
    return plan.images[span.start : span.stop]


def runs(labels):
    """Lengths of runs of one class."""
    return [len(list(run)) for _, run in itertools.groupby(labels)]


settings = st.fixed_dictionaries(
    {
        "protocol": st.sampled_from(sorted(PROTOCOLS)),
        "corruptions": st.lists(st.sampled_from(CORRUPTIONS), min_size=1, max_size=4, unique=True),
        "frames": st.integers(1, 450),
        "seed": st.integers(0, 2**63 - 1),
        "severity": st.integers(1, 5),
    }
)


@given(settings)
def test_a_plan_is_whole_and_the_same_for_the_same_seed(asked):
    options = {"severity": asked["severity"], "seed": asked["seed"]}
    plan, again = (
        plan_stream(asked["protocol"], LABELS, asked["corruptions"], asked["frames"], **options) for _ in range(2)
    )

    valid = plan.valid
    assert plan.digest() == again.digest()
    assert {len(getattr(plan, name)) for name in ("images", "labels", "corruptions", "severities", "kinds")} == {
        len(plan)
    }
    assert (plan.labels[valid] == LABELS[plan.images[valid]]).all()
    assert (plan.labels[~valid] == -1).all()
    assert [(span.start, span.stop) for span in plan.spans] == list(
        itertools.pairwise([0, *(span.stop for span in plan.spans)])
    )
    assert plan.spans[-1].stop == len(plan)
    assert all(span.start < span.stop for span in plan.spans)
    for name in set(asked["corruptions"]):
        there = int((valid & (plan.corruptions == plan.names.index(name))).sum())
        if asked["protocol"] == "recurring":
            assert there == 20 * max(1, asked["frames"] // 10)
        else:
            assert there == asked["frames"]


@given(settings)
def test_a_change_is_marked_where_the_corruption_is_another_one_and_nowhere_else(asked):
    plan = plan_stream(asked["protocol"], LABELS, asked["corruptions"], asked["frames"], seed=asked["seed"])

    if asked["protocol"] == "mixed":
        assert [span.change for span in plan.spans] == [True]
        return
    before = np.concatenate([[-1], plan.corruptions[:-1]])
    changes = {int(place) for place in np.flatnonzero(plan.corruptions != before)}
    assert changes == {span.start for span in plan.spans if span.change}


@pytest.mark.parametrize("protocol", sorted(PROTOCOLS))
def test_another_seed_shows_other_frames_and_every_protocol_says_where_it_comes_from(protocol):
    first, other = (plan_stream(protocol, LABELS, TWO, 60, seed=seed).digest() for seed in (0, 1))

    assert first != other
    assert len(PROTOCOLS[protocol].summary) > 20
    assert "arXiv" in PROTOCOLS[protocol].source or PROTOCOLS[protocol].source.startswith("ours")


@pytest.mark.parametrize("protocol", ["practical", "sorted", "mixed", "gradual", "sudden"])
def test_the_frames_are_those_of_the_continual_stream_in_another_order(protocol):
    plan, continual = (plan_stream(name, LABELS, TWO, 150, seed=3) for name in (protocol, "continual"))

    for number in range(2):
        there, expected = (sorted(one.images[one.corruptions == number]) for one in (plan, continual))
        assert there == expected


def test_a_stream_longer_than_the_set_goes_through_all_of_it_before_any_image_comes_again():
    plan = plan_stream("continual", LABELS, ("fog",), 450)

    assert plan.distinct_images == 200
    assert [len(np.unique(plan.images[part])) for part in (slice(0, 200), slice(200, 400))] == [200, 200]
    assert (plan.images[:200] != plan.images[200:400]).any()


def test_classes_come_in_runs_as_rottas_sampler_deals_them_out():
    """Worked out once more: each class is cut by Dirichlet(0.1) shares, which are mostly one large and many empty."""
    plan = plan_stream("practical", LABELS, CORRUPTIONS, 200, seed=1)
    labels = plan.labels.reshape(15, 200)

    longest = [max(runs(line)) for line in labels]
    assert np.mean(longest) > 25  # a class has 40 frames; at random the longest run of 200 has about 4
    shares = np.random.default_rng(0).dirichlet([0.1] * CLASSES, 10_000).max(axis=1)
    largest = np.array([max(runs(line[line >= 0])) / 40 for line in labels])
    assert np.mean(largest) == pytest.approx(1.0, abs=0.3)
    assert shares.mean() > 0.75


def test_sorted_has_one_run_a_class_and_an_order_of_its_own_in_each_corruption():
    plan = plan_stream("sorted", LABELS, CORRUPTIONS[:4], 200)

    orders = [tuple(label for label, _ in itertools.groupby(line)) for line in plan.labels.reshape(4, 200)]
    assert all(sorted(order) == list(range(CLASSES)) for order in orders)
    assert len(set(orders)) > 1


def test_one_class_lasts_for_six_tenths_and_the_classes_take_turns():
    plan = plan_stream("one-class", LABELS, CORRUPTIONS[:5], 1000)

    long = [span for span in plan.spans if span.part == "one class"]
    classes = [set(plan.labels[span.start : span.stop]) for span in long]
    assert [span.stop - span.start for span in long] == [600] * 5
    assert sorted(min(labels) for labels in classes) == list(range(CLASSES))
    assert all(len(labels) == 1 for labels in classes)
    after = [counts(plan.labels[span.start : span.stop]) for span in plan.spans if span.part == "at random after"]
    assert all((one == 80).all() for one in after)


def test_recurring_visits_the_same_images_twenty_times_each_time_in_another_order():
    plan = plan_stream("recurring", LABELS, TWO, 1000)

    visits = [[span for span in plan.spans if span.visit == number] for number in range(1, 21)]
    assert [[span.corruption for span in visit] for visit in visits] == [list(TWO)] * 20
    fog = [shown(plan, visit[0]) for visit in visits]
    assert all(sorted(images) == sorted(fog[0]) for images in fog)
    assert (fog[0] != fog[1]).any()


def test_gradual_goes_up_and_down_in_each_corruption():
    plan = plan_stream("gradual", LABELS, TWO, 90)

    assert [span.severity for span in plan.spans] == 2 * [1, 2, 3, 4, 5, 4, 3, 2, 1]
    assert [span.change for span in plan.spans] == 2 * [True, *[False] * 8]


def test_sudden_stays_a_hundred_frames_and_goes_round_in_another_order_each_time():
    plan = plan_stream("sudden", LABELS, CORRUPTIONS, 1000)

    rounds = [[span.corruption for span in plan.spans if span.visit == number] for number in range(1, 11)]
    assert all(sorted(one) == sorted(CORRUPTIONS) for one in rounds)
    assert rounds[0] != rounds[1]
    assert {span.stop - span.start for span in plan.spans} == {100}


def test_three_frames_in_ten_are_garbage_of_three_kinds():
    plan = plan_stream("garbage", LABELS, TWO, 700)

    kinds = np.bincount(plan.kinds, minlength=4)
    assert list(kinds) == [1400, 200, 200, 200]
    assert kinds[Kind.NOISE :].sum() / len(plan) == pytest.approx(0.3)
    assert (np.flatnonzero(~plan.valid) < 900).any()


def test_clean_frames_come_after_each_corruption_and_at_the_end():
    plan = plan_stream("clean", LABELS, TWO, 40)

    assert [(span.corruption, span.stop - span.start) for span in plan.spans] == [
        ("fog", 40),
        (CLEAN, 10),
        ("contrast", 40),
        (CLEAN, 10),
        (CLEAN, 40),
    ]
    assert [span.change for span in plan.spans] == [True, True, True, True, False]
    assert (plan.severities[plan.corruptions == plan.names.index(CLEAN)] == 0).all()


def test_how_long_a_class_has_been_there_is_counted_over_valid_frames():
    plan = plan_stream("sorted", np.array([0, 0, 0, 1, 1]), ("fog",), 5)

    assert sorted(plan.since_class_change()) == [0, 0, 1, 1, 2]
