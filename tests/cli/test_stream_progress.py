import io

import pytest

from ecotta_rt.cli.progress import StreamProgress
from ecotta_rt.events import Answer, EventsDropped, GuardStep, StateNotSaved
from ecotta_rt.machine.clock import ManualClock
from ecotta_rt.records import Level
from ecotta_rt.sinks.tally import Tally


class Terminal(io.StringIO):
    def isatty(self):
        return True


ANSWER = Answer(0, "", "", 0, 1.0, 0.0, True, "adapted", 1.0, 0)


def shown(monkeypatch, stderr, *, answers_on_screen=False):
    """What is written while four answers come, a tenth of a second apart."""
    monkeypatch.setattr("sys.stderr", stderr)
    clock, tally = ManualClock(5.0), Tally()
    progress = StreamProgress(tally, clock, answers_on_screen=answers_on_screen)
    for _ in range(4):
        clock.advance_s(0.1)
        tally.take(ANSWER)
        progress.take(ANSWER)
    progress.close()
    return stderr.getvalue()


def test_a_terminal_sees_one_line_that_is_written_over_a_few_times_a_second_and_is_gone_at_the_end(monkeypatch):
    written = shown(monkeypatch, Terminal())

    assert [line[:8] for line in written.split("\r\x1b[K")] == ["", "1 frames", "4 frames", ""]
    assert "10.0 frames a second" in written
    assert "\n" not in written


@pytest.mark.parametrize(("stderr", "answers_on_screen"), [(io.StringIO, False), (Terminal, True)])
def test_a_log_is_left_alone_and_so_are_answers_on_the_screen(monkeypatch, stderr, answers_on_screen):
    assert shown(monkeypatch, stderr(), answers_on_screen=answers_on_screen) == ""


@pytest.mark.parametrize(("stderr", "clear"), [(Terminal, "\r\x1b[K"), (io.StringIO, "")])
@pytest.mark.parametrize(
    ("event", "line"),
    [
        (GuardStep(3, Level.FULL, Level.SPARSE, "throttled"), "guard: full -> sparse (throttled)"),
        (StateNotSaved("s", "s cannot be written"), "warning: s cannot be written"),
        (
            EventsDropped("a.jsonl", 1),
            "warning: a.jsonl takes events more slowly than they come; the oldest are dropped",
        ),
    ],
)
def test_what_people_should_know_stays_on_a_line_of_its_own(monkeypatch, stderr, clear, event, line):
    monkeypatch.setattr("sys.stderr", written := stderr())

    StreamProgress(Tally(), ManualClock(), answers_on_screen=False).take(event)

    assert written.getvalue() == f"{clear}ecotta run: {line}\n"
