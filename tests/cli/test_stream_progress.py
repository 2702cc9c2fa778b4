import io

import pytest

from ecotta_rt.cli.stream_progress import StreamProgress
from ecotta_rt.machine.clock import ManualClock
from ecotta_rt.runtime.guard import GuardEvent
from ecotta_rt.runtime.level import Level
from ecotta_rt.sinks.tally import Tally


class Terminal(io.StringIO):
    def isatty(self):
        return True


def shown(monkeypatch, stderr, *, answers_on_screen=False):
    """What is written while four batches come, a tenth of a second apart."""
    monkeypatch.setattr("sys.stderr", stderr)
    clock = ManualClock(5.0)
    with StreamProgress(clock, answers_on_screen=answers_on_screen) as progress:
        for batch in range(1, 5):
            clock.advance_s(0.1)
            progress.after_batch(Tally(frames=batch))
    return stderr.getvalue()


def test_a_terminal_sees_one_line_that_is_written_over_a_few_times_a_second_and_is_gone_at_the_end(monkeypatch):
    written = shown(monkeypatch, Terminal())

    assert [line[:8] for line in written.split("\r\x1b[K")] == ["", "1 frames", "4 frames", ""]
    assert "10.0 frames a second" in written
    assert "\n" not in written


@pytest.mark.parametrize(("stderr", "answers_on_screen"), [(io.StringIO, False), (Terminal, True)])
def test_a_log_is_left_alone_and_so_are_answers_on_the_screen(monkeypatch, stderr, answers_on_screen):
    assert shown(monkeypatch, stderr(), answers_on_screen=answers_on_screen) == ""


@pytest.mark.parametrize(("stderr", "clear"), [(Terminal(), "\r\x1b[K"), (io.StringIO(), "")])
def test_a_step_of_the_guard_stays_on_a_line_of_its_own(monkeypatch, stderr, clear):
    monkeypatch.setattr("sys.stderr", stderr)
    step = GuardEvent(3, Level.FULL, Level.SPARSE, "throttled")

    StreamProgress(ManualClock(), answers_on_screen=False).show_step(step)

    assert stderr.getvalue() == f"{clear}ecotta run: guard: full -> sparse (throttled)\n"
