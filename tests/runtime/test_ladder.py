import pytest

from ecotta_rt.errors import BudgetExceeded
from ecotta_rt.events import Refusal
from ecotta_rt.machine.clock import ManualClock
from ecotta_rt.machine.vitals import Vitals
from ecotta_rt.records import Level
from ecotta_rt.runtime.guard import Guard
from ecotta_rt.runtime.guard_policy import GuardPolicy
from ecotta_rt.runtime.ladder import Ladder

MIB = 2**20
WAITING = Refusal(0, "frame-0", "what waited was answered")


class Climb:
    """A ladder whose guard reads so much memory of 100 MiB; a reading a second."""

    def __init__(self, engine, closed=()):
        self.engine, self.clock, self.pss_mib = engine, ManualClock(), 50
        engine.closed = closed
        read = lambda: Vitals(pss_bytes=self.pss_mib * MIB)  # noqa: E731
        self.guard = Guard(GuardPolicy(limit_bytes=lambda: 100 * MIB, dwell_s=0.5), read, self.clock)
        self.ladder = Ladder(engine, self.guard)

    def at(self, pss_mib):
        """What is told of a reading, and the levels that the engine was asked for meanwhile."""
        self.clock.advance_s(1)
        self.pss_mib, before = pss_mib, len(self.engine.log)
        told = [
            event if event is WAITING else f"{event.before}-{event.level} {event.why}"
            for event in self.ladder.check(3, lambda: iter([WAITING]))
        ]
        return told, self.engine.log[before:]


def test_it_follows_the_guard_down_and_up(make_engine):
    climb = Climb(make_engine())

    assert climb.at(50) == ([], [])
    assert climb.at(97) == (["full-statistics limit"], ["statistics"])
    assert climb.ladder.level == Level.STATISTICS
    climb.at(10)
    assert climb.at(10) == (["statistics-sparse recovered"], ["sparse"])


def test_what_waits_is_answered_before_everything_is_closed(make_engine):
    climb = Climb(make_engine())
    climb.at(97)
    climb.at(97)

    assert climb.at(97) == (["inference-drop limit", WAITING], ["drop"])


@pytest.mark.parametrize(
    ("closed", "told", "asked"),
    [
        (("statistics",), ["statistics-inference cannot-load"], ["statistics", "inference"]),
        (
            ("statistics", "inference"),
            [WAITING, "statistics-drop cannot-load"],
            ["statistics", "inference", "drop"],
        ),
    ],
)
def test_where_a_level_cannot_be_opened_the_next_lower_one_is_taken(make_engine, closed, told, asked):
    climb = Climb(make_engine(), closed)

    assert climb.at(97) == (["full-statistics limit", *told], asked)
    assert climb.guard.level == climb.ladder.level == Level[asked[-1].upper()]


def test_on_the_way_up_it_stays_where_it_was(make_engine):
    climb = Climb(make_engine())
    climb.guard.level = climb.ladder.level = Level.DROP
    climb.engine.closed = ("inference",)
    climb.at(10)

    assert climb.at(10) == ([WAITING, "drop-drop cannot-load"], ["inference", "drop"])


def test_a_graph_that_got_no_memory_asks_for_the_next_level_at_once(make_engine):
    climb = Climb(make_engine())
    short = BudgetExceeded("too large", need_bytes=3, limit_bytes=2, largest_tenant="a tensor")

    assert climb.ladder.fell_short(short)
    assert climb.at(10) == (["full-statistics limit"], ["statistics"])
    climb.guard.level = Level.DROP
    assert not climb.ladder.fell_short(short)


def test_without_a_guard_it_stays_on_full(make_engine):
    engine = make_engine()
    ladder = Ladder(engine, None)

    assert ([*ladder.check(0, lambda: iter(()))], ladder.level, engine.log) == ([], Level.FULL, [])
    assert not ladder.fell_short(BudgetExceeded("x", need_bytes=1, limit_bytes=0, largest_tenant=""))
