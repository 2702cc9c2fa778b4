"""The loop under a guard: what it does on each rung, and that no accepted frame is lost."""

import numpy as np
import pytest

from ecotta_rt.errors import BudgetExceeded, TransferError
from ecotta_rt.events import GuardStep, Refusal, StreamEnded
from ecotta_rt.machine.clock import ManualClock
from ecotta_rt.machine.vitals import Vitals
from ecotta_rt.records import Frame, Level
from ecotta_rt.runtime.guard import Guard
from ecotta_rt.runtime.guard_policy import GuardPolicy
from ecotta_rt.runtime.loop import Loop
from ecotta_rt.session.interrupted import Interrupted
from fixtures.kept import Kept, played

MIB = 2**20
CALM = Vitals(pss_bytes=50 * MIB)
HOT = Vitals(temperature_c=81.0)
SHORT = Vitals(pss_bytes=97 * MIB)
FAR = Vitals(pss_bytes=500 * MIB)


class Stream:
    """One frame a second; from frame n on the reading is `readings[n]`."""

    dropped = 0

    def __init__(self, count, readings):
        self.count, self.readings = count, readings
        self.now, self.clock = CALM, ManualClock()
        self.closed = False

    def __iter__(self):
        for index in range(self.count):
            if self.closed:
                return
            self.clock.advance_s(1.0)
            self.now = self.readings.get(index, self.now)
            yield Frame(np.full((2, 2, 3), 200, np.uint8), index, self.clock.now_s(), f"frame-{index}")

    def close(self):
        self.closed = True


def guarded(engine, count, readings, **policy):
    """The sink and the tally of a stream."""
    stream = Stream(count, readings)
    guard = Guard(GuardPolicy(limit_bytes=lambda: 100 * MIB, **policy), lambda: stream.now, stream.clock)
    return played(Loop(stream, engine, clock=stream.clock, guard=guard))


def steps(sink):
    return [(event.frame, str(event.before), str(event.level), event.why) for event in sink.steps]


def test_a_calm_stream_is_answered_and_learned_from_as_without_a_guard(make_engine):
    engine = make_engine()

    sink, tally = guarded(engine, 5, {})

    assert engine.log == 5 * ["learn"]
    assert (steps(sink), tally.last_step, dict(tally.levels)) == ([], None, {Level.FULL: 5})


def test_heat_makes_the_duty_cycle_four_times_as_short(make_engine):
    engine = make_engine()

    sink, tally = guarded(engine, 20, {4: HOT}, cool_s=1000)

    assert steps(sink) == [(4, "full", "sparse", "temperature")]
    assert engine.log == [*4 * ["learn"], "sparse", *4 * [*3 * ["answer"], "learn"]]
    assert dict(tally.levels) == {Level.FULL: 4, Level.SPARSE: 16}


def test_short_of_memory_it_answers_with_statistics_that_follow_then_held(make_engine):
    engine = make_engine()

    sink, tally = guarded(engine, 6, {2: SHORT, 3: CALM, 4: SHORT, 5: CALM})

    assert engine.log == ["learn", "learn", "statistics", "answer", "answer", "inference", "held", "held"]
    assert [answer.frame for answer in sink.answers] == list(range(6))
    assert [answer.why for answer in sink.answers] == 2 * ["adapted"] + 4 * ["off"]
    assert tally.offered == 2
    assert str(tally).endswith("2 updates, mean latency 0.0 ms, 2 at statistics, 2 at inference")


def test_frames_that_wait_are_answered_before_new_ones_are_dropped(make_engine):
    engine = make_engine(batch=4)

    sink, tally = guarded(engine, 9, {5: SHORT, 6: SHORT, 7: SHORT})

    assert engine.log == ["learn", "statistics", "inference", "held", "drop"]
    assert [answer.frame for answer in sink.answers] == [0, 1, 2, 3, 4, 5, 6]
    assert (tally.frames, tally.dropped, tally.levels[Level.DROP]) == (7, 2, 2)


def test_a_jump_to_dropping_answers_them_in_the_least_memory(make_engine):
    """As heat makes it, from a level on which the statistics follow."""
    engine = make_engine(batch=4)

    sink, _ = guarded(engine, 8, {0: Vitals(temperature_c=90.0)}, cool_s=1)

    assert steps(sink) == [
        (0, "full", "sparse", "temperature"),
        (1, "sparse", "statistics", "temperature"),
        (2, "statistics", "drop", "temperature"),
    ]
    assert engine.log == ["sparse", "statistics", "inference", "held", "drop"]
    assert [answer.frame for answer in sink.answers] == [0, 1]


def test_dropped_frames_count_and_refused_ones_are_still_told(make_engine):
    engine, clock = make_engine(), ManualClock()
    guard = Guard(GuardPolicy(limit_bytes=lambda: MIB), lambda: FAR, clock)

    class Source:
        dropped = 3

        def __iter__(self):
            for index in range(4):
                clock.advance_s(1)
                yield Frame(np.zeros((2, 2, 3), np.uint8), index, 0.0)
            yield Refusal(4, "torn", "truncated")

        def close(self):
            pass

    sink, tally = played(Loop(Source(), engine, clock=clock, guard=guard))

    assert [answer.frame for answer in sink.answers] == [0], "at `inference`, which had to be tried"
    assert (tally.dropped, tally.levels[Level.DROP], tally.refused) == (6, 3, 1)
    assert clock.slept_s == 3 * [0.25], "a folder is not emptied in a second"


def test_frames_that_wait_and_cannot_be_answered_any_more_are_told(make_engine):
    engine = make_engine(batch=4)
    engine.closed = ("statistics", "inference")

    sink, tally = guarded(engine, 7, {5: SHORT})

    assert [refusal.index for refusal in sink.refusals] == [4]
    assert "no memory to answer it" in sink.refusals[0].why
    assert (tally.frames, tally.refused, tally.dropped) == (4, 1, 2)
    assert steps(sink)[-1] == (5, "statistics", "drop", "cannot-load")


def test_a_step_down_is_told_before_it_is_made_and_a_step_up_after(make_engine):
    engine, stream, made = make_engine(), Stream(20, {1: SHORT, 2: CALM}), []
    guard = Guard(
        GuardPolicy(limit_bytes=lambda: 120 * MIB, most_share=0.8, calm_share=0.5), lambda: stream.now, stream.clock
    )

    for event in Loop(stream, engine, clock=stream.clock, guard=guard):
        if isinstance(event, GuardStep):
            made.append((str(event), str(event.level) in engine.log))

    assert made == [
        ("guard: full -> statistics (limit: 97 of 120 MiB)", False),
        ("guard: statistics -> sparse (recovered: 50 of 120 MiB)", True),
    ]


# While no frame comes


class Hanging:
    """A camera that gives one frame and then none until it is closed; ticks meanwhile."""

    dropped, closed = 0, False

    def ticking(self, every_s):
        yield Frame(np.full((2, 2, 3), 200, np.uint8), 0, 0.0)
        while not self.closed:
            yield None

    def close(self):
        self.closed = True


def test_a_limit_lowered_while_no_frame_comes_is_noticed_and_what_waits_is_answered(make_engine):
    engine, sink, readings = make_engine(batch=2), Kept(), iter([CALM, SHORT, SHORT, SHORT])
    guard = Guard(GuardPolicy(limit_bytes=lambda: 100 * MIB, check_every_s=0), lambda: next(readings))
    loop = Loop(Hanging(), engine, guard=guard)

    for event in loop:
        sink.take(event)
        if isinstance(event, GuardStep) and event.level == Level.DROP:
            loop.stop()

    assert [answer.frame for answer in sink.answers] == [0]
    assert engine.log == ["statistics", "inference", "held", "drop"]
    assert sink.events[-1] == StreamEnded(0)


def test_the_limit_counts_no_moments_without_a_frame(make_engine):
    class Slow(Hanging):
        def ticking(self, every_s):
            for index in range(3):
                yield from (None, None, Frame(np.zeros((2, 2, 3), np.uint8), index, 0.0))

    guard = Guard(GuardPolicy(), lambda: CALM, ManualClock())

    sink, _ = played(Loop(Slow(), make_engine(), limit=2, guard=guard))

    assert [answer.frame for answer in sink.answers] == [0, 1]


# While a batch is learned from


class Consulted:
    """Makes an engine whose steps are consulted about half-way, with readings of their own; and runs it."""

    def __init__(self, make_engine, readings, batch=1, closed=()):
        class Engine(make_engine):
            def __call__(engine, frames):
                self.loop.check_memory()
                if engine.log[-1:] == ["interrupt"]:
                    raise Interrupted("half-way")
                return super().__call__(frames)

        self.engine = Engine(batch)
        self.engine.closed = closed
        stream, readings = Stream(2 * batch, {}), iter(readings)
        guard = Guard(GuardPolicy(limit_bytes=lambda: 100 * MIB, check_every_s=5), lambda: next(readings), stream.clock)
        self.loop = Loop(stream, self.engine, clock=stream.clock, guard=guard)
        self.sink, self.tally = played(self.loop)


def test_while_a_batch_is_learned_from_nobody_steps_and_a_calm_reading_changes_nothing(make_engine):
    assert Consulted(make_engine, [CALM, HOT, CALM]).engine.log == ["learn", "learn"]


def test_short_of_memory_the_learning_is_given_up_and_the_batch_answered_without(make_engine):
    run = Consulted(make_engine, [CALM, SHORT, SHORT], batch=3)

    assert run.engine.log == ["interrupt", "statistics", "answer", "answer"]
    assert [answer.frame for answer in run.sink.answers] == list(range(6))
    assert (run.tally.offered, run.tally.adapted, run.tally.levels[Level.STATISTICS]) == (0, 0, 6)
    assert steps(run.sink) == [(2, "full", "statistics", "limit")]


def test_a_step_that_is_short_only_while_it_runs_is_not_begun_again_and_given_up_in_silence(make_engine):
    run = Consulted(make_engine, [CALM, SHORT, CALM])

    assert run.engine.log == ["interrupt", "statistics", "answer", "answer"]
    assert steps(run.sink) == [(0, "full", "statistics", "limit")]


def test_where_nothing_can_be_opened_any_more_the_batch_is_told(make_engine):
    run = Consulted(make_engine, [CALM, SHORT, SHORT], closed=("statistics", "inference"))

    assert [refusal.index for refusal in run.sink.refusals] == [0]
    assert (run.tally.frames, run.tally.refused, run.tally.dropped) == (0, 1, 1)


def test_a_run_that_is_to_end_does_not_answer_a_batch_for_which_no_time_is_left(make_engine):
    class Engine(make_engine):
        def __call__(self, frames):
            raise Interrupted("learning took too long")

        def predict(self, frames, hold_statistics=False, count=None):
            loop.stop()
            raise Interrupted("answering too")

    stream = Stream(4, {})
    loop = Loop(stream, Engine(2), clock=stream.clock)

    sink, tally = played(loop)

    assert [refusal.why for refusal in sink.refusals] == ["given up: the run was to end"] * 2
    assert (tally.frames, tally.refused) == (0, 2)


class TooLarge:
    """Makes an engine whose graphs ask for more memory than there is on some rungs, and runs it."""

    def __init__(self, make_engine, *rungs, guarded=True, frames=4):
        def refuse(rung):
            if rung in rungs:
                raise BudgetExceeded("too large", need_bytes=300, limit_bytes=200, largest_tenant="a tensor")

        class Engine(make_engine):
            level = Level.FULL

            def __call__(engine, frames):
                refuse("full")
                return super().__call__(frames)

            def predict(engine, frames, hold_statistics=False, count=None):
                refuse("inference" if hold_statistics else "statistics")
                return super().predict(frames, hold_statistics, count)

        stream = Stream(frames, {})
        guard = Guard(GuardPolicy(dwell_s=0, check_every_s=0), lambda: CALM, stream.clock) if guarded else None
        self.sink, self.tally = played(Loop(stream, Engine(2), clock=stream.clock, guard=guard))


def test_a_step_for_which_there_is_no_memory_is_not_made_again(make_engine):
    run = TooLarge(make_engine, "full")

    assert [answer.frame for answer in run.sink.answers] == [0, 1, 2, 3]
    assert [(str(step.before), str(step.level), step.why) for step in run.sink.steps] == [
        ("full", "statistics", "limit")
    ]
    assert (run.sink.steps[0].usage_bytes, run.sink.steps[0].limit_bytes) == (300, 200)


def test_where_nothing_has_memory_frames_are_refused(make_engine):
    run = TooLarge(make_engine, "full", "statistics", "inference", frames=2)

    assert [str(step.level) for step in run.sink.steps] == ["statistics", "inference", "drop"]
    assert [refusal.why for refusal in run.sink.refusals] == ["no memory to answer it: too large"] * 2
    assert not run.sink.answers


def test_without_a_guard_a_step_for_which_there_is_no_memory_ends_the_run(make_engine):
    with pytest.raises(BudgetExceeded, match="too large"):
        TooLarge(make_engine, "full", guarded=False)


def test_while_a_batch_is_merely_answered_nobody_is_interrupted(make_engine):
    class Engine(make_engine):
        def predict(self, frames, hold_statistics=False, count=None):
            loop.check_memory()
            return super().predict(frames, hold_statistics, count)

    engine, stream, readings = Engine(), Stream(2, {}), iter([CALM])
    guard = Guard(GuardPolicy(limit_bytes=lambda: 100 * MIB, check_every_s=5), lambda: next(readings), stream.clock)
    loop = Loop(stream, engine, adapt_every=0, clock=stream.clock, guard=guard)
    played(loop)

    assert engine.log == ["answer", "answer"]


def test_what_goes_wrong_while_a_batch_is_learned_from_ends_the_run_too(make_engine):
    learning = []

    def limit_bytes():
        if learning:
            raise TransferError("the app that sets the limit is gone")

    class Engine(make_engine):
        def __call__(self, frames):
            learning.append(True)
            loop.check_memory()
            return super().__call__(frames)

    stream, sink = Stream(5, {}), Kept()
    guard = Guard(GuardPolicy(limit_bytes=limit_bytes), lambda: CALM, stream.clock)
    loop = Loop(stream, Engine(), clock=stream.clock, guard=guard)

    with pytest.raises(TransferError, match="the app"):
        sink.events.extend(loop)
    assert [answer.frame for answer in sink.answers] == [0]


def test_a_loop_without_a_guard_has_nobody_to_ask(make_engine):
    loop = Loop(Stream(1, {}), make_engine())

    loop.check_memory()

    assert played(loop)[0].steps == []
