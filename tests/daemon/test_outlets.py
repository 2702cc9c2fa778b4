"""Outputs that a reload replaces."""

from threading import Event as Flag

import pytest

from ecotta_rt.daemon import outlets as outlets_module
from ecotta_rt.daemon.configuration.config import Output
from ecotta_rt.daemon.outlets import Outlets
from ecotta_rt.events import Reloaded, SinkFailed
from ecotta_rt.machine.clock import SystemClock
from ecotta_rt.sinks import outlet
from ecotta_rt.sinks.context import SinkContext
from ecotta_rt.sinks.kinds import SinkKind, SinkOptions
from fixtures.heard import Heard

MOST_S = 30.0


class Hanging:
    def __init__(self, name, steps, taken, released):
        self.name, self.steps, self.taken, self.released = name, steps, taken, released
        steps(f"{name} opened")

    def take(self, event):
        self.taken.set()
        self.released.wait(MOST_S)

    def close(self):
        self.steps(f"{self.name} closed")


@pytest.fixture
def steps():
    return Heard()


@pytest.fixture
def taken():
    return Flag()


@pytest.fixture
def released():
    return Flag()


@pytest.fixture
def told():
    return Heard()


@pytest.fixture
def outlets(monkeypatch, steps, taken, released, told):
    kind = SinkKind("csv", SinkOptions, lambda options, name, context: Hanging(name, steps, taken, released))
    monkeypatch.setattr(outlet, "sink_kind", lambda name: kind)
    outlets = Outlets(SinkContext(told, lambda: False, SystemClock()))
    yield outlets
    released.set()
    outlets.close(MOST_S)


def test_one_that_hangs_is_not_waited_for_and_what_may_have_its_file_is_opened_after_it(
    outlets, monkeypatch, steps, taken, released
):
    monkeypatch.setattr(outlets_module, "_REPLACED_S", MOST_S)
    outlets.exchange([Output("csv", "old", SinkOptions())])
    for one in outlets:
        one.take(Reloaded())
    assert taken.wait(MOST_S)

    outlets.exchange([Output("csv", "new", SinkOptions())])
    assert steps.events == ["old opened"], "and yet we are here"
    released.set()
    steps.wait_for(lambda events: len(events) == 3)

    assert steps.events == ["old opened", "old closed", "new opened"]


def test_one_that_hangs_for_good_is_left_behind_told_and_replaced(outlets, monkeypatch, steps, taken, told):
    monkeypatch.setattr(outlets_module, "_REPLACED_S", 0.0)
    outlets.exchange([Output("csv", "old", SinkOptions())])
    for one in outlets:
        one.take(Reloaded())
    assert taken.wait(MOST_S)

    outlets.exchange([Output("csv", "new", SinkOptions())])
    steps.wait_for(lambda events: len(events) == 2)

    assert steps.events == ["old opened", "new opened"]
    assert [failed.sink for failed in told.of(SinkFailed)] == ["old"]
