"""Centred clipping, against its definition."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecotta_rt.fleet.clipping import clipped_mean
from ecotta_rt.fleet.flat import FlatStates
from ecotta_rt.fleet.merge import merge
from ecotta_rt.fleet.options import MergeOptions
from ecotta_rt.fleet.robust import distances
from fleet.conftest import NORMS, sent, state


def flat(*states):
    reader = FlatStates()
    return sorted((reader.read(source) for source in sent(*states)), key=lambda one: one.digest)


@given(st.lists(st.integers(0, 2**16), min_size=1, max_size=9, unique=True))
@settings(max_examples=30)
def test_it_is_what_is_written(seeds):
    states = flat(*(state(seed, place=(seed % 3) / 10) for seed in seeds))
    at = states[0].arrangement
    x = np.stack([one.vector() for one in states]).astype(float)
    m = np.median(x, axis=0)
    means, deviations = x[:, at.means], np.sqrt(x[:, at.variances])
    usual = np.median(deviations, axis=0)
    unit = np.sqrt(usual**2 + 1e-5)
    apart = np.concatenate([(means - m[at.means]) / unit, (deviations - usual) / unit], axis=1)
    d = np.sqrt((apart**2).mean(axis=1))
    dp = np.sqrt(((x - m)[:, : at.parameter_count] ** 2).mean(axis=1))

    def drawn(values, middle, apart):
        return middle + np.minimum(1, np.median(apart) / np.maximum(apart, 1e-30))[:, None] * (values - middle)

    by_hand = drawn(x, m, dp).mean(axis=0)
    drawn_means, drawn_deviations = drawn(means, m[at.means], d), drawn(deviations, usual, d)
    by_hand[at.means] = drawn_means.mean(axis=0)
    by_hand[at.variances] = (drawn_deviations**2).mean(axis=0) + drawn_means.var(axis=0)

    np.testing.assert_allclose(clipped_mean(states), by_hand, rtol=2e-5, atol=1e-6)


def test_of_two_it_is_their_mean():
    boards = [state(1), state(2)]
    clipped, mean = (
        merge(sent(*boards), MergeOptions(rule, weights="equal")).groups[0].state for rule in ("clipped-mean", "mean")
    )

    assert all(np.array_equal(array, mean.parameters[name]) for name, array in clipped.parameters.items())
    assert all(np.array_equal(array, mean.statistics[name]) for name, array in clipped.statistics.items())


def far(seed, means=0.0, deviations=0.0, channels=slice(None)):
    """A state that is so many standard deviations away, in all channels or some of each norm."""
    one = state(seed)
    statistics = {name: array.copy() for name, array in one.statistics.items()}
    for name, array in statistics.items():
        if name.endswith(".mean"):
            array[channels] += np.float32(means)
        else:
            array[channels] = np.square(np.sqrt(array[channels]) + np.float32(deviations))
    return state(seed, statistics=statistics)


@given(
    honest=st.integers(5, 9),
    hostile=st.integers(0, 4),
    means=st.sampled_from([0.0, 1.0, -1.0]),
    deviations=st.sampled_from([0.0, 1.0, 0.3]),
    times=st.floats(0.1, 1e6),
    channels=st.sampled_from([slice(None), slice(0, 1)]),
)
@settings(max_examples=60)
def test_it_is_within_the_radius_wherever_states_are(honest, hostile, means, deviations, times, channels):
    attackers = [far(20 + one, times * means, times * deviations, channels) for one in range(hostile)]
    states = flat(*(state(seed) for seed in range(honest)), *attackers)

    found, result = distances(states), clipped_mean(states)

    at, centre = states[0].arrangement, found.centre
    unit = np.sqrt(centre[at.variances] + 1e-5)
    parts = (result - centre)[at.means], np.sqrt(result[at.variances]) - np.sqrt(centre[at.variances])
    apart = np.sqrt(np.mean([np.square(part / unit) for part in parts]))
    assert apart <= 1.001 * np.median(found.statistics)
    honest_ones = distances(flat(*(state(seed) for seed in range(honest))))
    assert np.median(found.statistics) < 2 * honest_ones.statistics.max()  # who are far do not choose it


@pytest.mark.parametrize("times", [1.0, 10.0, 1e3, 1e6])
def test_variances_far_away_count_as_those_nearer(times):
    boards = [state(seed) for seed in range(9)]

    near, away = (clipped_mean(flat(*boards, far(20, 0, by), far(21, 0, by))) for by in (1.0, times))

    variances = flat(state())[0].arrangement.variances
    np.testing.assert_allclose(away[variances], near[variances], rtol=0.02)
    assert away[variances].max() < 1.2  # honest ones are 1 to 1.05


@given(st.integers(0, 2**16), st.floats(1e-4, 1e4), st.integers(3, 8))
def test_norms_that_all_hold_stay_to_the_bit(seed, scale, count):
    held = {n: np.float32(scale) * a for n, a in state(seed).statistics.items() if n.startswith("bn1")}
    boards = [state(one, place=one / 9) for one in range(count)]
    boards = [state(one, statistics={**board.statistics, **held}) for one, board in enumerate(boards)]

    result = merge(sent(*boards), MergeOptions("clipped-mean")).groups[0].state

    assert all(np.array_equal(result.statistics[name], array) for name, array in held.items())


@pytest.mark.parametrize(("still", "learned"), [(6, 4), (7, 3), (5, 5), (4, 6), (15, 5)])
def test_where_most_stand_still_those_that_have_learned_count(still, learned):
    boards = [*(state(0) for _ in range(still)), *(state(1 + seed, place=0.1) for seed in range(learned))]

    clipped, mean = (
        merge(sent(*boards), MergeOptions(rule, weights="equal", robust=rule != "mean"))
        for rule in ("clipped-mean", "mean")
    )

    assert not clipped.left_out
    went, way = (
        np.concatenate(
            [(one.groups[0].state.statistics[f"{n}.mean"] - state(0).statistics[f"{n}.mean"]) for n in NORMS]
        )
        for one in (clipped, mean)
    )
    assert 0.4 < (went @ way) / (way @ way) < 1.1
    moved = [
        np.abs(
            one.groups[0].state.parameters["groups.0.conv.weight"] - state(0).parameters["groups.0.conv.weight"]
        ).mean()
        for one in (clipped, mean)
    ]
    assert 0.4 < moved[0] / moved[1] < 1.1


@pytest.mark.parametrize("count", [3, 4, 5, 10, 20, 24])
def test_where_all_others_stand_still_hostile_ones_count_for_nothing_up_to_a_fifth(count):
    hostile = max(count // 5, 1)
    boards = [state(0)] * (count - hostile)
    turned = {name: np.float32(0.7) * array for name, array in state(0).parameters.items()}

    clipped = merge(sent(*boards, *[state(0, parameters=turned)] * hostile), MergeOptions(robust=True)).groups[0]

    assert len(clipped.members) == count
    assert all(np.array_equal(array, state(0).parameters[n]) for n, array in clipped.state.parameters.items())


def test_numbers_that_overflow_are_far_and_nothing_is_warned_of():
    huge = [
        state(seed, parameters={n: a * np.float32(1e25) for n, a in state(seed).parameters.items()})
        for seed in range(3)
    ]

    with np.errstate(all="raise"):
        found = distances(flat(*huge))
        result = clipped_mean(flat(*huge))

    assert np.isfinite(result).all()
    assert set(found.why_far()) == {0, 1, 2}
