"""A day of a daemon by a clock that nobody waits for: cameras and outputs come and go, and nothing is left behind."""

import pytest

from simulated_day import CAMERAS, Goals, lived

MOST_GROWTH_MIB = 2.0


def require_nothing_left(day, before, after):
    assert (after.threads, after.descriptors) == (before.threads, before.descriptors)
    # Readers, the threads in which they read, outputs, and those that watch; some may be just ending.
    assert max(one.threads for one in day.held) <= before.threads + 2 * len(CAMERAS) + 2 + 8
    assert max(one.descriptors for one in day.held) <= before.descriptors + 8


def test_minutes_of_a_day_leave_no_thread_and_no_descriptor(tiny, tmp_path):
    goals = Goals(seconds=180, losses=20, failures=4, reloads=4, looks=1)
    day, before, after = lived(tiny.bundle("running"), tmp_path / "state", goals)

    require_nothing_left(day, before, after)
    assert day.seen["answers"] > 0
    assert day.seen["losses"] >= goals.losses
    assert day.seen["reloads"] >= goals.reloads - 1


@pytest.mark.slow
def test_a_day_with_ten_thousand_losses_leaves_memory_as_it_was(tiny, tmp_path):
    goals = Goals()
    day, before, after = lived(tiny.bundle("running"), tmp_path / "state", goals)

    require_nothing_left(day, before, after)
    assert abs(day.growth_mib()) < MOST_GROWTH_MIB
    assert day.seen["losses"] >= goals.losses
    assert day.seen["failures"] >= goals.failures
    assert day.seen["reloads"] >= goals.reloads - 1
