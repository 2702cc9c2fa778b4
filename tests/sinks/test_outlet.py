"""Outputs of a daemon: they never hold up the stream, come back by themselves, and everything lost is counted."""

import gc
import os
import threading
from threading import Event as Flag

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecotta_rt.errors import TransferError
from ecotta_rt.events import (
    AdaptingSet,
    Event,
    EventsDropped,
    Reloaded,
    SinkBack,
    SinkFailed,
    SourceBack,
    Stamped,
)
from ecotta_rt.machine.clock import ManualClock, SystemClock
from ecotta_rt.sinks.context import SinkContext
from ecotta_rt.sinks.csv_lines import CsvOptions
from ecotta_rt.sinks.json_lines import JsonLinesOptions
from ecotta_rt.sinks.kinds import SinkOptions
from ecotta_rt.sinks.outlet import Outlet, close_all, open_outlet
from ecotta_rt.sinks.sink import Undelivered
from ecotta_rt.sinks.unix_socket import UnixSocketOptions
from ecotta_rt.sinks.webhook import WebhookOptions
from fixtures.heard import Heard, wait_until


def event(number):
    return SourceBack(number, "camera")


def numbers(events):
    return [each.frame for each in events]


@settings(max_examples=40, deadline=None)
@given(
    outcomes=st.lists(
        st.sampled_from(["taken", "refused", "held", "given back", "thrown away", "hangs up"]), max_size=30
    ),
    count=st.integers(0, 30),
    capacity=st.integers(1, 40),
)
def test_every_event_is_delivered_once_or_counted_as_lost(outcomes, count, capacity):
    """Whatever the sink does with it."""
    left, delivered, clock, told = [*outcomes], [], ManualClock(), Heard()

    class Moody:
        def __init__(self):
            self.batch = []
            if left and left[0] == "hangs up":
                left.pop(0)
                raise TransferError("nobody there")

        def take(self, event):
            outcome = left.pop(0) if left else "taken"
            if outcome == "refused" and not self.batch:
                raise ValueError(outcome)
            self.batch.append(event)
            if outcome in ("given back", "thrown away"):
                batch, self.batch = self.batch, []
                raise Undelivered(outcome, batch, again=outcome == "given back")
            if outcome != "held":
                delivered.extend(self.batch)
                self.batch = []

        def close(self):
            delivered.extend(self.batch)

    output = outlet(Moody, told, clock, capacity=capacity)
    for number in range(count):
        output.take(event(number))

    def a_minute_later():
        clock.advance_s(60)
        output.reopen()  # which wakes it

    wait_until(lambda: not output.waiting or a_minute_later())
    output.close(30)

    assert len(delivered) + output.lost == count
    assert len({*numbers(delivered)}) == len(delivered)
    assert numbers(delivered) == sorted(numbers(delivered))
    told_lost = sum(each.count for each in told.of(EventsDropped)) + sum(each.missed for each in told.of(SinkBack))
    assert told_lost == output.lost


class Broken(Heard):
    """Fails as often as it is told to."""

    def __init__(self, times=0):
        super().__init__()
        self.times = times
        self.opened = 0

    def open(self):
        self.opened += 1
        return self

    def take(self, event):
        if self.times:
            self.times -= 1
            raise TransferError("the disk is full")
        super().take(event)


@pytest.fixture
def clock():
    return ManualClock()


def outlet(opens, told, clock, **more):
    return Outlet("log", opens, told, clock=clock, draw=lambda: 1.0, **more)


def test_events_come_in_order_and_all_that_wait_are_taken_before_the_end(clock):
    sink, told = Heard(), Heard()
    output = outlet(lambda: sink, told, clock)
    for number in range(100):
        output.take(event(number))
    output.close(30)

    assert numbers(sink.events) == [*range(100)]
    assert (told.events, output.lost) == ([], 0)
    output.close(30)
    output.take(event(100))
    assert len(sink.events) == 100


def test_a_slow_sink_holds_up_nobody_and_what_it_drops_is_told_at_once_and_then_once_a_minute(clock):
    begun, free, told = Flag(), Flag(), Heard()

    class Slow(Heard):
        def take(self, event):
            begun.set()
            assert free.wait(30)
            super().take(event)

    sink = Slow()
    output = outlet(lambda: sink, told, clock, capacity=10)
    output.take(event(0))
    assert begun.wait(30)
    for number in range(1, 101):
        output.take(event(number))
    assert told.events == [EventsDropped("log", 1)]
    clock.advance_s(61)
    output.take(event(101))
    assert told.events[1:] == [EventsDropped("log", 90)]
    free.set()
    output.close(30)

    assert numbers(sink.events) == [0, *range(92, 102)], "the newest are kept"
    assert output.lost == 91 == sum(each.count for each in told.events)


def test_a_sink_that_fails_is_opened_again_later_and_told_once_with_what_it_missed(clock):
    sink, told = Broken(times=2), Heard()
    output = outlet(sink.open, told, clock, capacity=3)
    output.take(event(0))
    told.wait_for(lambda events: events == [SinkFailed("log", "the disk is full")])
    for number in range(1, 6):
        output.take(event(number))
    assert sink.opened == 1, "not before its time"
    clock.advance_s(1.0)
    output.take(event(6))  # the second failure
    wait_until(lambda: sink.times == 0 and output.failing and sink.opened == 2)
    assert len(told.events) == 1, "told once"
    clock.advance_s(2.0)
    output.take(event(7))
    told.wait_for(lambda events: len(events) == 2)
    output.close(30)

    assert numbers(sink.events) == [5, 6, 7]
    assert told.events[1:] == [SinkBack("log", 5)]
    assert output.lost == 5


def test_waits_grow_to_a_minute_and_begin_anew_after_a_sink_has_lasted(clock):
    sink, told = Broken(times=10**6), Heard()
    output = outlet(sink.open, told, clock, capacity=10**6)
    waits = []
    for tries in range(1, 9):
        output.take(event(tries))
        wait_until(lambda tries=tries: sink.opened == tries and output._sink is None and output._tries == tries)
        waits.append(output._try_s - clock.now_s())
        clock.advance_s(waits[-1])
    sink.times = 0
    output.take(event(9))
    told.wait_for(lambda events: isinstance(events[-1], SinkBack))
    clock.advance_s(10)
    sink.times = 1
    output.take(event(10))
    wait_until(lambda: output._tries == 1)
    waits.append(output._try_s - clock.now_s())
    output.close(30)

    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 1]


def test_each_wait_is_a_random_share_so_that_many_do_not_come_back_in_step(clock):
    output = Outlet("log", Broken(times=9).open, Heard(), clock=clock, draw=lambda: 0.25)
    output.take(event(0))
    wait_until(lambda: output.failing)

    assert output._try_s == 0.25
    output.close(30)


def test_a_sink_that_cannot_be_opened_is_waited_for_and_gets_what_fits_in_the_queue(clock):
    sink, told, there = Heard(), Heard(), []

    def opens():
        if not there:
            raise ConnectionRefusedError(111, "Connection refused")
        return sink

    output = outlet(opens, told, clock, capacity=2)
    told.wait_for(lambda events: events == [SinkFailed("log", "[Errno 111] Connection refused")])
    for number in range(5):
        output.take(event(number))
    there.append(True)
    clock.advance_s(1)
    output.take(event(5))
    told.wait_for(lambda events: len(events) == 2)
    output.close(30)

    assert numbers(sink.events) == [4, 5]
    assert told.events[1] == SinkBack("log", 4)


def test_a_mistake_of_a_sink_is_told_and_no_end_either(clock):
    told = Heard()

    class Wrong(Heard):
        def take(self, event):
            raise KeyError("label")

    output = outlet(Wrong, told, clock)
    output.take(event(0))
    told.wait_for(lambda events: events == [SinkFailed("log", "KeyError: 'label'")])
    output.close(30)

    assert told.events[1:] == [EventsDropped("log", 1, "KeyError: 'label'")], "at the end all that was lost is told"


def test_what_is_lost_is_counted_while_it_fails_and_told_at_the_end_with_the_last_reason(clock):
    told, whys = Heard(), ["nobody there", "answered 401"]

    class Refusing(Heard):
        def take(self, event):
            raise Undelivered(whys.pop(0), [event], again=False)

    output = outlet(Refusing, told, clock, capacity=3)
    output.take(event(0))
    told.wait_for(lambda events: events == [SinkFailed("log", "nobody there")])
    assert output.missed == 1
    for number in range(1, 6):
        output.take(event(number))
    assert output.missed == 3, "those that do not fit in the queue are lost, too"
    clock.advance_s(1)
    output.take(event(6))
    wait_until(lambda: not whys and output._sink is None)
    missed = output.missed
    output.close(30)

    assert missed >= 4
    assert told.events[1:] == [EventsDropped("log", 7, "answered 401")]
    assert output.lost == 7


def test_what_fails_with_the_last_events_is_no_slow_output(clock):
    told = Heard()

    class Holding(Heard):
        def close(self):
            raise Undelivered("answered 401", self.events, again=False)

    output = outlet(Holding, told, clock)
    output.take(event(0))
    output.close(30)

    assert told.events == [EventsDropped("log", 1, "answered 401")]


def test_what_a_sink_held_is_given_to_it_again_or_counted(clock):
    kept = []

    class Batching(Heard):
        again = True

        def take(self, event):
            super().take(event)
            if len(self.events) == 3 and not kept:
                kept.append(True)
                raise Undelivered("no answer", self.events, again=self.again)

    for again in (True, False):
        sinks, told = [], Heard()
        Batching.again = again
        kept.clear()
        output = outlet(lambda sinks=sinks: sinks.append(Batching()) or sinks[-1], told, clock)
        for number in range(3):
            output.take(event(number))
        told.wait_for(lambda events: events)
        clock.advance_s(1)
        output.take(event(3))
        told.wait_for(lambda events: len(events) == 2)
        output.close(30)

        assert numbers(sinks[-1].events) == ([0, 1, 2, 3] if again else [3])
        assert told.events[1] == SinkBack("log", 0 if again else 3)


def test_a_sink_that_hangs_holds_up_the_end_no_longer_than_it_may(clock):
    begun, free, told = Flag(), Flag(), Heard()

    class Hung(Heard):
        def take(self, event):
            begun.set()
            assert free.wait(30)

    outputs = [Outlet(f"log {each}", Hung, told, clock=clock) for each in range(3)]
    for output in outputs:
        for number in range(5):
            output.take(event(number))
    assert begun.wait(30)
    start_s = SystemClock().now_s()
    close_all(outputs, 0.2)

    assert SystemClock().now_s() - start_s < 5
    assert told.events == [
        each for output in outputs for each in (told_hung(output.name, told), EventsDropped(output.name, 5))
    ]
    free.set()
    for output in outputs:
        output._thread.join(30)
        output.close(30)
    assert len(told.events) == 6, "told once"


def told_hung(name, told):
    (said,) = [each for each in told.of(SinkFailed) if each.sink == name]
    assert "left behind" in said.why
    return said


def test_a_sink_is_asked_now_and_then_and_its_file_opened_anew_on_request(clock):
    done, ticked = Heard(), Flag()

    class Ticking(Heard):
        tick_s = 0.001

        def tick(self):
            ticked.set()

        def reopen(self):
            done("reopened")

    output = outlet(Ticking, Heard(), clock)
    assert ticked.wait(30)
    output.reopen()
    done.wait_for(lambda events: events == ["reopened"])
    output.close(30)


def test_a_thousand_failures_leave_neither_threads_nor_descriptors(clock, tmp_path):
    gc.collect()  # what other tests have left
    told, sinks, threads, open_files = Heard(), [], threading.active_count(), len(os.listdir("/proc/self/fd"))

    class Opening(Heard):
        def __init__(self):
            super().__init__()
            self.file = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT)
            sinks.append(self)

        def take(self, event):
            if event.frame % 2:
                raise TransferError("the disk is full")

        def close(self):
            os.close(self.file)

    output = outlet(Opening, told, clock)
    for number in range(1, 2001):
        output.take(event(number))
        told.wait_for(lambda events, count=number: len(events) == count)
        clock.advance_s(60)
        assert threading.active_count() <= threads + 1
    output.close(30)

    assert len(told.of(SinkFailed)) == len(told.of(SinkBack)) == 1000
    assert sum(each.missed for each in told.of(SinkBack)) == 1000 == output.lost
    assert len(sinks) == 1001
    assert threading.active_count() <= threads
    assert len(os.listdir("/proc/self/fd")) <= open_files


def test_outputs_that_cannot_be_opened_or_fail_leave_neither_threads_nor_descriptors(clock, tmp_path):
    (tmp_path / "taken").write_text("no socket")
    kinds = {
        "json-lines": JsonLinesOptions(file=str(tmp_path / "no" / "log.jsonl")),
        "csv": CsvOptions(file="/dev/full"),
        "socket": UnixSocketOptions(path=str(tmp_path / "taken")),
        "webhook": WebhookOptions(url="http://127.0.0.1:1/"),
    }
    gc.collect()  # what other tests have left
    told, threads, open_files = Heard(), threading.active_count(), len(os.listdir("/proc/self/fd"))
    context = SinkContext(report=told, stopping=lambda: False, clock=clock)
    outputs = [open_outlet(kind, kind, options, context) for kind, options in kinds.items()]
    for tries in range(1, 101):
        for output in outputs:
            output.take(event(tries))
        wait_until(lambda tries=tries: all(output._tries >= tries for output in outputs))
        clock.advance_s(60)
    assert threading.active_count() <= threads + len(outputs)
    close_all(outputs, 30)

    assert [each.sink for each in told.of(SinkFailed)].count("webhook") == 1
    assert {each.sink for each in told.of(SinkFailed)} == {*kinds}
    assert {output.lost for output in outputs} == {100}
    assert sum(each.count for each in told.of(EventsDropped)) == 400
    assert threading.active_count() <= threads
    assert len(os.listdir("/proc/self/fd")) <= open_files


def stamped(event, camera=None):
    return Stamped(event, 0.0, 0.0, camera)


def test_an_output_gets_the_events_and_cameras_that_its_options_name(monkeypatch):
    sink = Heard()
    kind = type("Kind", (), {"opens": staticmethod(lambda options, name, context: sink)})
    monkeypatch.setattr("ecotta_rt.sinks.outlet.sink_kind", lambda name: kind)
    context = SinkContext(report=Heard(), stopping=lambda: False, clock=SystemClock())
    options = SinkOptions(events=("camera-back", "reloaded"), cameras=("door",))
    output = open_outlet("json-lines", "log", options, context)
    wanted = [stamped(event(1), "door"), stamped(Reloaded())]
    for each in (*wanted, stamped(event(2), "yard"), stamped(AdaptingSet(3, True), "door"), stamped(Event(), "door")):
        output.take(each)
    output.close(30)

    assert sink.events == wanted
