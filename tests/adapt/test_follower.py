from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecotta_rt.adapt.channels import Channels
from ecotta_rt.adapt.class_tables import measure_classes
from ecotta_rt.adapt.follower import Followed, StatisticsFollower
from ecotta_rt.errors import UsageError
from ecotta_rt.options import AdaptationOptions

CHANNELS = Channels.of([("a.variance", 2), ("a.mean", 2), ("b.mean", 3), ("b.variance", 3)])
DEEP = np.array([False, False, True, True, True])
CLASSES = 3
OPTIONS = AdaptationOptions(early_momentum=0.05, deep_momentum=0.02, leak=0.03, boost=5.0)


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


def follower(options=OPTIONS, source=None):
    if source is None:
        source = seen_frames(1, 9)[0]
    return StatisticsFollower(Followed(CHANNELS, source, DEEP, tables()), options)


def weights_of(count, seed=2):
    raw = np.random.default_rng(seed).uniform(0, 1, (count, CLASSES)).astype(np.float32)
    return raw / raw.sum(axis=1, keepdims=True)


def by_definition(source, seen, weights, certain, options):
    """The rules channel by channel, in float64 and plain Python."""
    t = tables()
    offsets = np.array([t.offset(c) for c in np.eye(CLASSES, dtype=np.float32)]).astype(float)
    spreads = np.array([t.spread(c) for c in np.eye(CLASSES, dtype=np.float32)]).astype(float)
    mean = [float(source[i]) for i in CHANNELS.means]
    variance = [float(source[i]) for i in CHANNELS.variances]
    m0, v0, drift = list(mean), list(variance), [0.0] * 5
    for frame, w, sure in zip(seen, weights, certain, strict=True):
        d = [float(frame[i]) - m for i, m in zip(CHANNELS.means, mean, strict=True)]
        s = [float(frame[i]) for i in CHANNELS.variances]
        delta = [d[c] - sum(w[k] * offsets[k][c] for k in range(CLASSES)) for c in range(5)]
        drift = [e + 0.1 * (x / f - e) for e, x, f in zip(drift, delta, t.fluctuation, strict=True)]
        moved = sum(e * e for e, deep in zip(drift, DEEP, strict=True) if not deep) / 2
        boost = 1 + (options.boost - 1) * min(max(moved / 0.3 - 1, 0), 1)
        for c in range(5):
            u = options.deep_momentum * sure if DEEP[c] else options.early_momentum * boost
            k = options.leak if DEEP[c] else 0
            if options.statistics == "plain":
                u = options.deep_momentum if DEEP[c] else options.early_momentum
                variance[c] = (1 - u) * (variance[c] + u * d[c] ** 2) + u * s[c]
                mean[c] += u * d[c]
            else:
                rho = sum(w[j] * spreads[j][c] for j in range(CLASSES))
                growth = min((s[c] + d[c] ** 2) / rho - variance[c], 19 * (variance[c] + 1e-5))
                variance[c] += u * growth
                mean[c] += u * delta[c]
            mean[c] += k * (m0[c] - mean[c])
            variance[c] += k * (v0[c] - variance[c])
    return np.array(mean), np.array(variance)


@pytest.mark.parametrize("rule", ["plain", "de-classed"])
def test_statistics_move_as_defined(rule):
    options = replace(OPTIONS, statistics=rule)
    one = follower(options)
    source, seen, weights = one.now.copy(), seen_frames(40), weights_of(40)
    certain = np.arange(40) % 3 > 0
    means, variances = by_definition(source, seen, weights, certain, options)

    now = one.take(seen, weights, certain)

    assert now[CHANNELS.means] == pytest.approx(means, abs=1e-4)
    assert now[CHANNELS.variances] == pytest.approx(variances, rel=1e-4)


@given(st.integers(0, 12), st.integers(0, 50))
def test_batches_and_a_restart_in_between_change_nothing(cut, seed):
    seen, weights, certain = seen_frames(12, seed), weights_of(12, seed), np.arange(12) % 4 > 0
    whole, first, second = follower(), follower(), follower()

    first.take(seen[:cut], weights[:cut], certain[:cut])
    second.restore(first.now, first.arrays())
    second.take(seen[cut:], weights[cut:], certain[cut:])

    assert np.array_equal(second.now, whole.take(seen, weights, certain))
    assert np.array_equal(second.arrays()["drift"], whole.arrays()["drift"])


@given(st.integers(0, 50), st.floats(0, 1), st.floats(0, 1), st.floats(1, 100))
def test_variances_stay_positive_and_all_stays_finite_whatever_comes(seed, momentum, leak, boost):
    options = replace(OPTIONS, early_momentum=momentum / 100, deep_momentum=momentum, leak=leak, boost=boost)
    one = follower(options)

    now = one.take(1e3 * np.abs(seen_frames(30, seed)), weights_of(30, seed), np.full(30, True))

    assert np.isfinite(now).all()
    assert now[CHANNELS.variances].min() >= 0


def test_frames_that_differ_by_their_class_alone_leave_de_classed_statistics_where_they_are():
    t = tables()
    source = np.empty(10, np.float32)
    source[CHANNELS.means], source[CHANNELS.variances] = 0.5, t.deviation**2
    one = follower(replace(OPTIONS, leak=0.0), source)
    certain_of_2 = np.eye(CLASSES, dtype=np.float32)[2]
    frame = np.empty(10, np.float32)
    frame[CHANNELS.means] = 0.5 + t.offset(certain_of_2)
    frame[CHANNELS.variances] = t.deviation**2 * t.spread(certain_of_2) - t.offset(certain_of_2) ** 2

    now = one.take(np.tile(frame, (100, 1)), np.tile(certain_of_2, (100, 1)), np.full(100, True))

    assert now == pytest.approx(source, rel=1e-3, abs=1e-3)
    plain = follower(replace(OPTIONS, leak=0.0, statistics="plain"), source)
    moved = plain.take(np.tile(frame, (100, 1)), np.tile(certain_of_2, (100, 1)), np.full(100, True))
    assert np.abs(moved - source).max() > 0.5


def test_uncertain_frames_move_the_early_norms_alone():
    one = follower(replace(OPTIONS, leak=0.0))
    before = one.now.copy()

    after = one.take(seen_frames(5), weights_of(5), np.full(5, False))

    moved = after != before
    assert not moved[CHANNELS.means[DEEP]].any()
    assert moved[CHANNELS.means[~DEEP]].all()


def test_after_a_change_the_early_norms_move_faster():
    seen = np.tile(seen_frames(1)[0], (30, 1))
    seen[:, CHANNELS.means] += 5
    slow, fast = follower(replace(OPTIONS, boost=1.0)), follower()

    for one in (slow, fast):
        one.take(seen, weights_of(30), np.full(30, True))

    early = CHANNELS.means[~DEEP]
    assert (np.abs(seen[0] - fast.now)[early] < 0.5 * np.abs(seen[0] - slow.now)[early]).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_frame_that_is_not_finite_moves_nothing(bad):
    one, other = follower(), follower()
    seen, weights, certain = seen_frames(3), weights_of(3), np.full(3, True)
    other.take(seen[[0, 2]], weights[[0, 2]], certain[:2])
    seen[1, 4] = bad

    assert np.array_equal(one.take(seen, weights, certain), other.now)


def test_what_does_not_fit_is_refused():
    with pytest.raises(UsageError, match="needs class tables"):
        StatisticsFollower(Followed(CHANNELS, seen_frames(1)[0], DEEP), OPTIONS)
    with pytest.raises(UsageError, match=r"\[9\] and \[5\] for 5 channels"):
        StatisticsFollower(Followed(CHANNELS, np.zeros(9, np.float32), DEEP, tables()), OPTIONS)
    with pytest.raises(UsageError, match="of another network"):
        follower().restore(np.zeros(9, np.float32), {"drift": np.zeros(5, np.float32)})
