"""Centred clipping, against its definition."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecotta_rt.fleet.clipping import clipped_mean
from ecotta_rt.fleet.flat import FlatStates
from ecotta_rt.fleet.merge import merge
from ecotta_rt.fleet.options import MergeOptions
from fleet.conftest import sent, state


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
    usual = np.sqrt(m[at.variances])
    unit = np.sqrt(m[at.variances] + 1e-5)
    means, deviations = x[:, at.means], np.sqrt(x[:, at.variances])
    if len(states) % 2 == 0:  # the median of roots, and not the root of the median
        usual = np.median(deviations, axis=0)
        unit = np.sqrt(usual**2 + 1e-5)
    apart = np.concatenate([(means - m[at.means]) / unit, (deviations - usual) / unit], axis=1)
    d = np.sqrt((apart**2).mean(axis=1))
    dp = np.sqrt(((x - m)[:, : at.parameter_count] ** 2).mean(axis=1))

    drawn = m + np.minimum(1, np.median(d) / np.maximum(d, 1e-30))[:, None] * (x - m)
    drawn_p = m + np.minimum(1, np.median(dp) / np.maximum(dp, 1e-30))[:, None] * (x - m)
    by_hand = drawn_p.mean(axis=0)
    by_hand[at.means] = drawn[:, at.means].mean(axis=0)
    by_hand[at.variances] = drawn[:, at.variances].mean(axis=0) + drawn[:, at.means].var(axis=0)

    np.testing.assert_allclose(clipped_mean(states), by_hand, rtol=2e-5, atol=1e-6)


def test_of_two_it_is_their_mean():
    boards = [state(1), state(2)]
    clipped, mean = (
        merge(sent(*boards), MergeOptions(rule, weights="equal")).groups[0].state for rule in ("clipped-mean", "mean")
    )

    assert max(clipped.compare(mean).values()) < 1e-6


@pytest.mark.parametrize("place", [1.0, 1e3])
def test_a_few_move_it_no_further_wherever_they_are(place):
    honest = [state(seed) for seed in range(9)]
    hostile = [state(20, place=place), state(21, place=place)]

    without, attacked = (clipped_mean(flat(*states)) for states in (honest, [*honest, *hostile]))

    means = flat(state())[0].arrangement.means
    assert np.sqrt(((attacked - without)[means] ** 2).mean()) < 0.04  # honest ones are 0.05 apart
