"""What the guard promises, whatever it reads."""

from hypothesis import given
from hypothesis import strategies as st

from ecotta_rt.machine.clock import ManualClock
from ecotta_rt.machine.control_group import GroupMemory
from ecotta_rt.machine.vitals import Vitals
from ecotta_rt.records import Level
from ecotta_rt.runtime.guard import Guard
from ecotta_rt.runtime.guard_policy import GuardPolicy

MIB = 2**20

READINGS = st.builds(
    Vitals,
    pss_bytes=st.none() | st.integers(1, 300 * MIB),
    group=st.none() | st.builds(GroupMemory, st.integers(0, 400 * MIB), st.integers(1, 400 * MIB)),
    available_bytes=st.none() | st.integers(0, 200 * MIB),
    temperature_c=st.none() | st.floats(20, 110),
    throttled=st.none() | st.sampled_from([0, 1, 4, 8, 0x50000, 0x50005]),
)
MOMENTS = st.lists(
    st.tuples(st.sampled_from([0.125, 0.25, 3, 12, 40]), READINGS, st.none() | st.integers(1, 300 * MIB)), max_size=40
)


def short_of_memory(policy, vitals, limit_bytes):
    shares = [] if vitals.group is None else [vitals.group.usage_bytes / vitals.group.limit_bytes]
    if limit_bytes is not None and vitals.pss_bytes is not None:
        shares.append(vitals.pss_bytes / limit_bytes)
    scarce = vitals.available_bytes is not None and vitals.available_bytes < policy.least_available_bytes
    return scarce or any(share > policy.most_share for share in shares)


@given(MOMENTS)
def test_whatever_is_read_it_never_stays_where_memory_is_short_nor_flaps_nor_moves_in_silence(moments):
    clock, now, limit = ManualClock(), Vitals(), None
    policy = GuardPolicy(limit_bytes=lambda: limit)
    guard = Guard(policy, lambda: now, clock)
    checked_s = last_up_s = None
    left_s = {}
    for wait_s, now, limit in moments:
        clock.advance_s(wait_s)
        before, now_s = guard.level, clock.now_s()
        due = checked_s is None or now_s - checked_s >= policy.check_every_s
        event = guard.check()
        checked_s = now_s if due else checked_s

        assert (event is None) == (guard.level == before), "levels change by events only"
        if event is not None:
            assert (event.before, event.level) == (before, guard.level)
            assert due
        if due and short_of_memory(policy, now, limit):
            assert guard.level >= Level.STATISTICS
            assert guard.level > before or before == Level.DROP
        if guard.level < before:
            assert not short_of_memory(policy, now, limit)
            assert before - guard.level == 1 or (before, guard.level) == (Level.STATISTICS, Level.FULL)
            assert last_up_s is None or now_s - last_up_s >= policy.dwell_s
            assert now_s - left_s.get(guard.level, -1e9) >= policy.dwell_s, "never back before the dwell is over"
            last_up_s = now_s
        for level in range(before, guard.level):
            left_s[level] = now_s
