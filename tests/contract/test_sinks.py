"""What every sink promises, checked on each of them; whoever is in the table of plugs is checked, too."""

from dataclasses import dataclass
from threading import Event as Flag

import pytest

from contract.checks import offenders
from ecotta_rt.cli.progress import StreamProgress
from ecotta_rt.events import Event, EventsDropped
from ecotta_rt.machine.clock import ManualClock
from ecotta_rt.sinks.opening import PLUGS
from ecotta_rt.sinks.outlet import Outlet
from ecotta_rt.sinks.sink import FanOut
from ecotta_rt.sinks.state_keeper import StateKeeper
from ecotta_rt.sinks.tally import Tally
from fixtures.engines import FakeEngine
from fixtures.events import EVENTS
from fixtures.kept import Kept


@dataclass(frozen=True)
class Unheard(Event):
    """A kind that no sink knows."""

    of: str = "before"


SINKS = {
    **{plug.shown: lambda folder, plug=plug: opened(plug, folder) for plug in PLUGS},
    "tally": lambda _: Tally(),
    "kept": lambda _: Kept(),
    "state keeper": lambda folder: StateKeeper(folder / "state", FakeEngine(), 60, Kept().take, ManualClock()),
    "progress": lambda _: StreamProgress(Tally(), ManualClock(), answers_on_screen=False),
    "fatal outlet": lambda _: Outlet("kept", Kept, print, capacity=100, fatal=True),
    "several": lambda _: FanOut(Kept(), Tally()),
}


def opened(plug, folder):
    text = plug.shown.replace("FILE", str(folder / "out"))
    assert plug.recognises(text)
    return plug.opens(text, lambda: False)


def takes_every_kind_of_event(make):
    sink = make()
    for event in EVENTS:
        sink.take(event)
    sink.close()


def ignores_a_kind_that_it_does_not_know(make):
    sink = make()
    sink.take(Unheard())
    sink.close()


def may_be_closed_twice_and_hear_events_after_that(make):
    sink = make()
    sink.take(EVENTS[0])
    sink.close()
    sink.close()
    for event in EVENTS:
        sink.take(event)


@pytest.mark.parametrize(
    "check",
    [takes_every_kind_of_event, ignores_a_kind_that_it_does_not_know, may_be_closed_twice_and_hear_events_after_that],
    ids=lambda check: check.__name__,
)
def test_every_sink_keeps_it(check, tmp_path):
    assert offenders(check, SINKS, tmp_path) == []


def kinds(base):
    return {kind for child in base.__subclasses__() for kind in ({child} | kinds(child))}


def test_every_kind_of_event_is_among_those_they_take():
    assert kinds(Event) - {Unheard} == {type(event) for event in EVENTS}


def test_a_queue_never_waits_for_its_sink_and_counts_what_it_drops():
    class Stuck(Kept):
        def take(self, event):
            begun.set()
            assert free.wait(60)
            super().take(event)

    begun, free, told, stuck = Flag(), Flag(), Kept(), Stuck()
    queue = Outlet("stuck", lambda: stuck, told.take, capacity=10, fatal=True)
    queue.take(Unheard("first"))
    assert begun.wait(60)

    for number in range(1000):
        queue.take(Unheard(str(number)))
    assert told.events == [EventsDropped("stuck", 1)], "told at once"
    free.set()
    queue.close()

    assert queue.lost == 990
    assert [event.of for event in stuck.events] == ["first", *map(str, range(990, 1000))], "the newest are kept"
    assert sum(event.count for event in told.events) == 990


@pytest.mark.parametrize("failing", ["take", "close"])
def test_what_a_sink_behind_a_queue_raises_is_raised_once_in_the_stream(failing):
    def fail(*_):
        raise BrokenPipeError("the reader has gone")

    sink, closed = Kept(), []
    sink.close = lambda: closed.append(True)
    setattr(sink, failing, fail)
    queue = Outlet("pipe", lambda: sink, print, fatal=True)
    if failing == "take":
        queue.take(Unheard())

    with pytest.raises(BrokenPipeError, match="gone"):
        queue.close()
    assert closed == ([True] if failing == "take" else []), "one that fails is closed all the same"
    queue.close()
    queue.take(Unheard())


def test_several_sinks_are_closed_in_turn_the_last_first_and_the_first_error_is_raised():
    closed = []

    class Closing(Kept):
        def __init__(self, name, error=None):
            super().__init__()
            self.name, self.error = name, error

        def close(self):
            closed.append(self.name)
            if self.error:
                raise self.error

    sinks = FanOut(Closing("a", OSError("later")), Closing("b"), Closing("c", ValueError("first")))
    with pytest.raises(ValueError, match="first"):
        sinks.close()

    assert closed == ["c", "b", "a"]


def test_several_sinks_each_hear_of_an_event_that_one_of_them_cannot_take():
    def fail(_):
        raise BrokenPipeError("the reader has gone")

    broken, last = Kept(), Kept()
    broken.take = fail

    with pytest.raises(BrokenPipeError):
        FanOut(broken, last).take(EVENTS[0])

    assert last.events == [EVENTS[0]]
