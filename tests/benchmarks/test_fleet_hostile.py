"""Attacks of measure_fleet.py: as far as `ecotta merge --robust` lets, and no further."""

import pytest

from ecotta_rt.fleet.flat import FlatStates
from ecotta_rt.fleet.robust import distances
from fleet.conftest import sent, state
from fleet_hostile import within_limits
from fleet_movement import WITHIN_LIMITS


@pytest.mark.parametrize("what", WITHIN_LIMITS)
def test_a_hostile_state_is_the_furthest_that_is_not_left_out(what):
    honest = sent(*(state(seed) for seed in range(9)))
    reader = FlatStates()

    found = distances([reader.read(one) for one in (*honest, within_limits(honest, 0, what))])

    assert not found.why_far()
    values, limit = (found.parameters, found.limits[0]) if what == "parameters" else (found.statistics, found.limits[1])
    assert values.argmax() == 9
    assert 0.6 * limit < values[9] < limit
