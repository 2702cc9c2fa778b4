"""The ladder, by readings made by hand."""

from dataclasses import replace

import pytest

from ecotta_rt.errors import UsageError
from ecotta_rt.events import GuardStep
from ecotta_rt.machine.clock import ManualClock
from ecotta_rt.machine.control_group import GroupMemory
from ecotta_rt.machine.vitals import Vitals
from ecotta_rt.records import Level
from ecotta_rt.runtime.guard import Guard
from ecotta_rt.runtime.guard_policy import GuardPolicy

MIB = 2**20
CALM = Vitals(pss_bytes=100 * MIB, available_bytes=1000 * MIB, temperature_c=50.0)


class TimedReads:
    """A guard, the reading it will get next, and the limit it will be told."""

    def __init__(self, limit_mib=None, **policy):
        self.vitals, self.limit_mib = CALM, limit_mib
        self.clock = ManualClock()
        limit = lambda: None if self.limit_mib is None else self.limit_mib * MIB  # noqa: E731
        self.readings = 0
        self.guard = Guard(GuardPolicy(limit_bytes=limit, **policy), self.read, self.clock)

    def read(self):
        self.readings += 1
        return self.vitals

    def holds(self, **changes):
        """What is read from now on."""
        if "pss_mib" in changes:
            changes["pss_bytes"] = changes.pop("pss_mib") * MIB
        self.vitals = replace(self.vitals, **changes)

    def after_s(self, seconds, **keywords):
        self.clock.advance_s(seconds)
        return self.guard.check(**keywords)

    def names_over_s(self, seconds, every_s=0.25):
        """The levels reached, with the seconds at which they were."""
        start_s, steps = self.clock.now_s(), []
        while self.clock.now_s() - start_s < seconds:
            event = self.after_s(every_s)
            if event is not None:
                steps.append((round(self.clock.now_s() - start_s, 2), str(event.level)))
        return steps


def test_where_nothing_is_short_nothing_happens():
    watched = TimedReads(limit_mib=200)

    assert watched.names_over_s(20) == []
    assert watched.guard.level == Level.FULL


def test_a_system_that_tells_nothing_is_left_alone():
    watched = TimedReads(limit_mib=1)
    watched.vitals = Vitals()

    assert watched.names_over_s(20) == []


# Memory


def test_a_limit_lowered_at_run_time_ends_learning_at_the_next_check():
    watched = TimedReads(limit_mib=200)
    watched.guard.check()

    watched.limit_mib = 105
    event = watched.after_s(0.25, frame=17)

    assert event == GuardStep(
        17, Level.FULL, Level.STATISTICS, "limit", 100 * MIB, 105 * MIB, available_bytes=1000 * MIB, temperature_c=50.0
    )


def test_learning_less_often_frees_nothing_so_memory_skips_it_and_goes_on_until_it_is_enough():
    watched = TimedReads(limit_mib=105)

    assert watched.names_over_s(1) == [(0.25, "statistics"), (0.5, "inference"), (0.75, "drop")]


def test_memory_that_was_freed_ends_the_way_down():
    watched = TimedReads(limit_mib=105)
    watched.guard.check()

    watched.holds(pss_mib=70)

    assert watched.names_over_s(5) == []
    assert watched.guard.level == Level.STATISTICS


def test_far_over_the_limit_it_goes_to_inference_at_once_but_drops_no_frame_untried():
    watched = TimedReads(limit_mib=50)

    assert watched.guard.check().level == Level.INFERENCE


def test_what_the_next_batch_will_take_counts():
    watched = TimedReads(limit_mib=120)

    assert watched.guard.check(transient_bytes=5 * MIB) is None
    event = watched.after_s(0.25, transient_bytes=15 * MIB)
    assert (event.level, event.usage_bytes) == (Level.STATISTICS, 115 * MIB)


def test_the_control_group_counts_with_what_others_in_it_use():
    watched = TimedReads(limit_mib=200)
    watched.holds(group=GroupMemory(480 * MIB, 500 * MIB))

    event = watched.guard.check()

    assert (event.level, event.why) == (Level.STATISTICS, "control-group")
    assert (event.usage_bytes, event.limit_bytes) == (480 * MIB, 500 * MIB)


def test_a_machine_short_of_memory_counts_whatever_the_limits():
    watched = TimedReads()
    watched.holds(available_bytes=31 * MIB)

    event = watched.guard.check()

    assert (event.level, event.why, event.available_bytes) == (Level.STATISTICS, "available", 31 * MIB)


# Heat


def test_heat_shortens_the_duty_cycle_then_ends_learning_and_is_given_time_to_go():
    watched = TimedReads(most_temperature_c=70)
    watched.holds(temperature_c=71.0)

    assert watched.names_over_s(200) == [(0.25, "sparse"), (30.25, "statistics")]


def test_well_above_the_ceiling_frames_are_dropped():
    watched = TimedReads(most_temperature_c=70)
    watched.holds(temperature_c=75.0)

    assert watched.names_over_s(100) == [(0.25, "sparse"), (30.25, "statistics"), (60.25, "drop")]


def test_it_must_be_cool_again_not_only_below_the_ceiling():
    watched = TimedReads(most_temperature_c=70)
    watched.holds(temperature_c=71.0)
    watched.guard.check()

    watched.holds(temperature_c=66.0)
    assert watched.names_over_s(100) == []
    watched.holds(temperature_c=64.0)
    assert watched.names_over_s(100) == [(10.25, "full")]


@pytest.mark.parametrize("bit", [0x1, 0x2, 0x4, 0x8])
def test_a_processor_that_is_slowed_down_learns_less_and_drops_nothing(bit):
    watched = TimedReads()
    watched.holds(throttled=bit)

    assert watched.names_over_s(200) == [(0.25, "sparse"), (30.25, "statistics")]


def test_throttling_that_was_is_no_reason():
    watched = TimedReads()
    watched.holds(throttled=0xF0000)

    assert watched.names_over_s(20) == []


def test_heat_is_watched_only_with_a_ceiling():
    watched = TimedReads(most_temperature_c=None)
    watched.holds(temperature_c=120.0)

    assert watched.names_over_s(20) == []


def test_the_lowest_rung_asked_for_counts():
    watched = TimedReads(limit_mib=105)
    watched.holds(temperature_c=90.0)

    event = watched.guard.check()

    assert (event.level, event.why) == (Level.STATISTICS, "limit")


# Up again


def test_it_goes_up_rung_by_rung_with_calm_before_each():
    watched = TimedReads(limit_mib=50)
    watched.names_over_s(1)
    assert watched.guard.level == Level.DROP

    watched.limit_mib = 1000

    assert watched.names_over_s(60) == [
        (10.25, "inference"),
        (20.25, "statistics"),
        (30.25, "sparse"),
        (40.25, "full"),
    ]


def test_one_reading_that_is_not_calm_starts_the_wait_anew():
    watched = TimedReads(limit_mib=105)
    watched.guard.check()
    watched.holds(pss_mib=60)
    watched.limit_mib = 200
    assert watched.names_over_s(9) == []

    watched.limit_mib = 68  # 88 %
    assert watched.names_over_s(0.25) == []
    watched.limit_mib = 200

    assert watched.names_over_s(10) == []
    assert watched.after_s(0.25).level == Level.SPARSE


def test_a_rung_whose_memory_is_known_not_to_fit_is_not_tried():
    watched = TimedReads(limit_mib=105)
    watched.guard.check()  # 100 MiB with the graph that learns

    watched.holds(pss_mib=60)
    assert watched.names_over_s(1000) == []

    watched.limit_mib = 110
    assert watched.names_over_s(5) == [(0.25, "sparse")], "the calm has lasted long enough"


def test_a_large_picture_at_hand_for_one_reading_is_not_what_its_rung_takes():
    watched = TimedReads(limit_mib=150)
    watched.guard.check()
    watched.holds(pss_mib=240)
    assert watched.names_over_s(0.25) == [(0.25, "inference")]

    watched.holds(pss_mib=60)

    assert [level for _, level in watched.names_over_s(60)] == ["statistics", "sparse", "full"]


def test_where_the_second_graph_of_sparse_does_not_fit_full_is_tried():
    watched = TimedReads(limit_mib=110)
    watched.guard.check()
    watched.holds(temperature_c=90.0)
    watched.names_over_s(0.25)
    watched.holds(temperature_c=50.0, pss_mib=115)
    assert watched.names_over_s(0.25) == [(0.25, "statistics")]

    watched.holds(pss_mib=60)

    assert watched.names_over_s(20) == [(10.25, "full")]


def test_a_rung_that_had_to_be_left_again_soon_waits_twice_as_long_each_time():
    watched = TimedReads(longest_dwell_s=60)
    waits = []
    for _ in range(5):
        watched.holds(throttled=1)
        while watched.guard.level < Level.SPARSE:
            watched.after_s(0.25)
        watched.holds(throttled=0)
        since_s = watched.clock.now_s()
        while watched.guard.level > Level.FULL:
            watched.after_s(0.25)
        waits.append(watched.clock.now_s() - since_s)

    assert waits == [10.25, 20.25, 40.25, 60.25, 60.25]


def test_a_rung_that_was_held_for_long_is_forgiven():
    watched = TimedReads()
    hot, cool = {"temperature_c": 90.0}, {"temperature_c": 50.0}
    waits = []
    for held_s in (5, 5, 1000, 5):
        watched.holds(**hot)
        watched.names_over_s(1)
        watched.holds(**cool)
        waits += [seconds for seconds, _ in watched.names_over_s(100)][:1]
        watched.names_over_s(held_s)

    assert waits == [10.25, 10.25, 10.25, 10.25]


def test_graphs_that_cannot_be_opened_leave_it_on_the_lower_rung_to_wait_longer():
    watched = TimedReads(limit_mib=105)
    watched.guard.check()
    watched.limit_mib = 1000
    (step,) = [event for event in (watched.after_s(10.25), watched.after_s(10.25)) if event]

    event = watched.guard.cannot_load(step, Level.STATISTICS)

    assert (event.before, event.level, event.why) == (Level.STATISTICS, Level.STATISTICS, "cannot-load")
    assert str(event).startswith("guard: stays at statistics (cannot-load")
    assert watched.names_over_s(25) == [(20.25, "sparse")]


def test_graphs_that_cannot_be_opened_on_the_way_down_lead_further_down():
    watched = TimedReads(limit_mib=105)
    step = watched.guard.check()

    event = watched.guard.cannot_load(step, Level.DROP)

    assert (event.before, event.level, event.why) == (Level.STATISTICS, Level.DROP, "cannot-load")
    assert watched.guard.level == Level.DROP


# Checks


def test_readings_are_taken_no_more_often_than_agreed():
    watched = TimedReads(check_every_s=0.5)

    for _ in range(40):
        watched.after_s(0.125)

    assert watched.readings == 10


@pytest.mark.parametrize(
    ("event", "text"),
    [
        (
            GuardStep(0, Level.FULL, Level.STATISTICS, "limit", 261 * MIB, 200 * MIB, temperature_c=40.0),
            "guard: full -> statistics (limit: 261 of 200 MiB)",
        ),
        (
            GuardStep(0, Level.FULL, Level.SPARSE, "temperature", temperature_c=81.5),
            "guard: full -> sparse (81.5 degrees C)",
        ),
        (
            GuardStep(0, Level.FULL, Level.STATISTICS, "available", 1, None, 20 * MIB),
            "guard: full -> statistics (available: 20 MiB)",
        ),
        (GuardStep(0, Level.FULL, Level.SPARSE, "throttled", 1), "guard: full -> sparse (throttled)"),
    ],
)
def test_an_event_says_in_a_line_what_happened_and_why(event, text):
    assert str(event) == text


def test_numbers_that_cannot_be_meant_are_refused(subtests):
    for wrong in [
        {"most_share": 1.1},
        {"calm_share": 0.95},
        {"far_share": 0.9},
        {"calm_share": 0.0},
        {"most_temperature_c": 0.0},
        {"most_temperature_c": float("nan")},
        {"most_temperature_c": 353.0},
        {"sparse_every": 1},
        {"check_every_s": -1.0},
        {"longest_dwell_s": 1.0},
    ]:
        with subtests.test(**wrong), pytest.raises(UsageError):
            GuardPolicy(**wrong)


def test_a_step_in_progress_is_given_up_for_memory_only_and_the_next_check_is_due_at_once():
    watched = TimedReads(limit_mib=105, check_every_s=100)
    watched.holds(pss_mib=50)
    watched.guard.check()
    watched.holds(temperature_c=140.0, throttled=0xF)
    assert not watched.guard.must_not_wait()
    assert watched.after_s(1) is None

    watched.holds(pss_mib=100)
    assert watched.guard.must_not_wait()
    watched.holds(pss_mib=50, temperature_c=50.0, throttled=0)
    event = watched.after_s(1, transient_bytes=7 * MIB)
    assert (event.level, event.usage_bytes) == (Level.STATISTICS, 100 * MIB), "what the step held, not what it left"
    assert watched.names_over_s(3000, every_s=100) == [], "and that is what learning takes"
