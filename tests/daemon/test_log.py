"""Lines of the daemon on standard error: nobody waits for whoever reads them."""

import os
import threading

import pytest

from ecotta_rt.daemon import log as log_module
from ecotta_rt.daemon.configuration.tables import LogOptions
from ecotta_rt.daemon.log import Log
from ecotta_rt.events import Reloaded, Stamped, StateNotSaved, StateSaved


@pytest.fixture
def hanging(monkeypatch):
    """Standard error as a pipe that nobody empties: a write waits until the fixture lets it go."""
    go_on, begun, written = threading.Event(), threading.Event(), []

    def tell(program, text):
        begun.set()
        go_on.wait()
        written.append(text)

    monkeypatch.setattr(log_module, "tell", tell)
    yield begun, go_on, written
    go_on.set()


def test_a_reader_that_hangs_holds_up_neither_who_speaks_nor_the_end(hanging, monkeypatch):
    begun, go_on, written = hanging
    monkeypatch.setattr(log_module, "_END_S", 0.01)
    log = Log(LogOptions())

    with log.unhurried():
        log.say("first")
        begun.wait()
        for number in range(log_module._MOST_WAITING + 7):
            log.say(str(number))
    log.say("after the end")

    assert written == []  # all of it came back all the same
    writer = next(thread for thread in threading.enumerate() if thread.name == "log")
    log._waiting.get()  # the place for the sign to end, which found the queue full
    log._waiting.put(None)
    go_on.set()
    writer.join()
    assert written[:2] == ["first", "warning: 8 lines were dropped: nobody read standard error"]


def test_faults_of_a_refused_reload_have_a_line_each(capsys):
    Log(LogOptions()).take(Stamped(Reloaded((), "2 faults\n  line 3: a\n  line 4: b"), 0.0, 0.0))

    assert capsys.readouterr().err.splitlines()[1:] == ["  line 3: a", "  line 4: b"]


def test_lines_come_in_their_order_and_all_before_the_end(capsys):
    log = Log(LogOptions())

    log.say("before")
    with log.unhurried():
        for number in range(100):
            log.say(str(number))
    log.say("after")

    lines = [line.removeprefix("ecotta serve: ") for line in capsys.readouterr().err.split(os.linesep) if line]
    assert lines == ["before", *map(str, range(100)), "after"]


def test_that_saving_works_again_is_told_once_for_each_camera_that_could_not_save(capsys):
    log = Log(LogOptions())
    saved, failed = StateSaved("/s/door/7.safetensors", 9, "every 300 s"), StateNotSaved("/s/door", "the disk is full")

    for event, camera in ((saved, "door"), (failed, "door"), (saved, "yard"), (saved, "door"), (saved, "door")):
        log.take(Stamped(event, 0.0, 0.0, camera))

    assert capsys.readouterr().err.splitlines() == [
        "ecotta serve: warning: door: not saved in /s/door: the disk is full",
        "ecotta serve: door: saved again: 7.safetensors (every 300 s)",
    ]
