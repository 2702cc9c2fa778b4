from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecotta_rt.adapt.channels import Channels
from ecotta_rt.adapt.class_tables import measure_classes
from ecotta_rt.adapt.follower import Followed, StatisticsFollower
from ecotta_rt.adapt.moving import Moving
from ecotta_rt.errors import UsageError
from ecotta_rt.options import AdaptationOptions

CHANNELS = Channels.of([("a.variance", 2), ("a.mean", 2), ("b.mean", 3), ("b.variance", 3)])
CLASSES = 3
OPTIONS = AdaptationOptions(leak=0.03)


def seen_frames(count, seed=0):
    rng = np.random.default_rng(seed)
    seen = rng.normal(0, 1, (count, 10))
    seen[:, CHANNELS.variances] = rng.uniform(0.2, 2, (count, 5))
    return seen.astype(np.float32)


def tables(seed=1):
    labels = np.arange(60) % CLASSES
    seen = seen_frames(60, seed)
    seen[:, CHANNELS.means] += 2 * np.random.default_rng(seed).normal(size=(CLASSES, 5))[labels]
    return measure_classes([(seen, np.eye(CLASSES, dtype=np.float32)[labels])], CHANNELS)


FOLLOWED = Followed(CHANNELS, seen_frames(1, 9)[0], np.full(5, 0.01, np.float32), tables())


def after(options, seen, weights, gain, followed=FOLLOWED):
    """The moments after all frames."""
    follower, now = StatisticsFollower(followed, options), followed.channels.moments(followed.source)
    for frame, classes in zip(seen, weights, strict=True):
        now = follower.moved(now, followed.channels.moments(frame), classes, np.full(5, gain, np.float32))
    return now


def weights_of(count, seed=2):
    raw = np.random.default_rng(seed).uniform(0, 1, (count, CLASSES)).astype(np.float32)
    return raw / raw.sum(axis=1, keepdims=True)


def by_definition(seen, weights, gain, options):
    """The rules channel by channel, in float64 and plain Python."""
    t = FOLLOWED.tables
    offsets = np.array([t.offset(c) for c in np.eye(CLASSES, dtype=np.float32)]).astype(float)
    spreads = np.array([t.spread(c) for c in np.eye(CLASSES, dtype=np.float32)]).astype(float)
    mean = [float(FOLLOWED.source[i]) for i in CHANNELS.means]
    variance = [float(FOLLOWED.source[i]) for i in CHANNELS.variances]
    m0, v0, u, k = list(mean), list(variance), gain, options.leak
    for frame, w in zip(seen, weights, strict=True):
        for c in range(5):
            d, s = float(frame[CHANNELS.means[c]]) - mean[c], float(frame[CHANNELS.variances[c]])
            if options.statistics == "plain":
                variance[c] = (1 - u) * (variance[c] + u * d**2) + u * s
                mean[c] += u * d
            else:
                rho = sum(w[j] * spreads[j][c] for j in range(CLASSES))
                r = min((s + d**2) / (variance[c] * rho) - 1, 19)
                variance[c] *= 1 + u * r
                mean[c] += u * (d - sum(w[j] * offsets[j][c] for j in range(CLASSES)))
            mean[c] += k * (m0[c] - mean[c])
            variance[c] += k * (v0[c] - variance[c])
    return np.array(mean), np.array(variance)


@pytest.mark.parametrize("rule", ["plain", "de-classed"])
@pytest.mark.parametrize("leak", [0.0, 0.03])
def test_statistics_move_as_defined(rule, leak):
    options, seen, weights = AdaptationOptions(statistics=rule, leak=leak), seen_frames(40), weights_of(40)
    seen[7, CHANNELS.means] += 100  # beyond the most that a variance may grow by

    means, variances = after(options, seen, weights, 0.05)

    expected = by_definition(seen, weights, 0.05, options)
    assert means == pytest.approx(expected[0], abs=1e-4)
    assert variances == pytest.approx(expected[1], rel=1e-4)


@given(st.integers(0, 50), st.floats(0, 1), st.floats(0, 1), st.sampled_from(["plain", "de-classed"]))
def test_variances_stay_positive_and_all_stays_finite_whatever_comes(seed, gain, leak, rule):
    options = AdaptationOptions(statistics=rule, leak=leak)

    means, variances = after(options, 1e3 * np.abs(seen_frames(20, seed)), weights_of(20, seed), gain)

    assert np.isfinite(means).all()
    assert np.isfinite(variances).all()
    assert variances.min() >= 0


def test_frames_that_differ_by_their_class_alone_leave_de_classed_statistics_where_they_are():
    t = FOLLOWED.tables
    source = np.empty(10, np.float32)
    source[CHANNELS.means], source[CHANNELS.variances] = 0.5, t.deviation**2
    certain_of_2 = np.eye(CLASSES, dtype=np.float32)[2]
    frame = np.empty(10, np.float32)
    frame[CHANNELS.means] = 0.5 + t.offset(certain_of_2)
    frame[CHANNELS.variances] = t.deviation**2 * t.spread(certain_of_2) - t.offset(certain_of_2) ** 2
    stream = np.tile(frame, (100, 1)), np.tile(certain_of_2, (100, 1)), 0.02, replace(FOLLOWED, source=source)

    means, variances = after(AdaptationOptions(statistics="de-classed", leak=0.0), *stream)

    assert means == pytest.approx(0.5, abs=1e-3)
    assert variances == pytest.approx(t.deviation**2, rel=1e-3)
    assert np.abs(after(AdaptationOptions(statistics="plain", leak=0.0), *stream)[0] - 0.5).max() > 0.5


def test_the_plain_rule_is_the_one_that_the_torch_engine_moves_by():
    arrays = [("a.variance", 2), ("a.mean", 2), ("b.mean", 3), ("b.variance", 3)]
    seen, expected = seen_frames(30), FOLLOWED.source.copy()
    Moving(arrays, 0.05)(FOLLOWED.source, seen, expected)

    found = after(AdaptationOptions(statistics="plain", leak=0.0), seen, weights_of(30), 0.05)

    assert found.means == pytest.approx(CHANNELS.moments(expected).means, abs=1e-5)
    assert found.variances == pytest.approx(CHANNELS.moments(expected).variances, rel=1e-5)


def test_with_a_leak_they_go_back_to_the_source():
    far = replace(FOLLOWED, source=FOLLOWED.source)
    follower, now = StatisticsFollower(far, AdaptationOptions(leak=0.1)), far.channels.moments(seen_frames(1, 4)[0])
    for _ in range(100):
        now = follower.moved(now, now, weights_of(1)[0], np.zeros(5, np.float32))

    assert now[0] == pytest.approx(FOLLOWED.channels.moments(FOLLOWED.source)[0], abs=1e-3)
    assert now[1] == pytest.approx(FOLLOWED.channels.moments(FOLLOWED.source)[1], abs=1e-3)


def test_a_channel_without_variance_can_come_to_life():
    dead = replace(FOLLOWED, source=np.zeros(10, np.float32))

    _, variances = after(AdaptationOptions(), seen_frames(200), weights_of(200), 0.1, dead)

    assert variances.min() > 0.01


def test_what_does_not_fit_is_refused():
    with pytest.raises(UsageError, match="needs class tables"):
        StatisticsFollower(replace(FOLLOWED, tables=None), OPTIONS)
    with pytest.raises(UsageError, match=r"\[9\] and momenta \[5\] for 5 channels"):
        StatisticsFollower(replace(FOLLOWED, source=np.zeros(9, np.float32)), OPTIONS)
