import sys

import pytest

from ecotta_rt.cli.progress import RunProgress, TrainingProgress, WorkProgress
from ecotta_rt.prepare.epochs import WarmUpProgress


class Wait:
    """Stands for the event that ends the lines: each wait is over at once, and the clock shows the time waited for."""

    def __init__(self, clock, rounds):
        self.clock, self.rounds, self.waited = clock, rounds, []

    def wait(self, seconds):
        self.waited.append(seconds)
        self.clock.now += seconds
        self.rounds -= 1
        return self.rounds < 0

    def set(self):
        pass


class Clock:
    now = 100.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr("ecotta_rt.cli.progress.time", clock)
    return clock


def test_off_a_terminal_a_line_comes_each_half_minute_however_silent_the_work_is(clock, capsys):
    progress = WorkProgress("export", bar=False)
    progress._ended = wait = Wait(clock, rounds=3)
    progress.update(2, 9)

    progress._tell_now_and_then()

    assert wait.waited == [30.0] * 4
    assert capsys.readouterr().err.splitlines() == [f"export: 2 of 9  {seconds} s" for seconds in (30, 60, 90)]


def test_a_line_that_was_just_said_puts_the_next_off(clock, capsys):
    progress = WorkProgress("export", bar=False)
    clock.now += 20
    progress.say("graph 2 of 2: predict-1")
    progress._ended = wait = Wait(clock, rounds=1)

    progress._tell_now_and_then()

    assert wait.waited[0] == 30.0
    assert capsys.readouterr().err.splitlines() == [f"export: graph 2 of 2: predict-1  {s} s" for s in (20, 50)]


def test_the_teller_ends_with_the_work(capsys):
    with WorkProgress("decoding") as progress:
        progress.update(1, 1)

    assert not progress._teller.is_alive()
    assert capsys.readouterr().err == ""


def test_training_tells_each_epoch(capsys):
    with TrainingProgress("warm-up") as report:
        for step in range(1, 5):
            report(WarmUpProgress(step, 4, (step + 1) // 2, 2, 0.5, 12.5, 1.0))

    lines = capsys.readouterr().err.splitlines()
    assert [line.split("  ")[0] for line in lines] == ["warm-up: epoch 1/2", "warm-up: epoch 2/2"]


def test_training_tells_how_long_it_takes_by_the_steps_of_this_process(capsys):
    with TrainingProgress("warm-up") as report:
        for step, seconds in ((7, 30.0), (8, 60.0), (9, 90.0)):  # six were there already
            report(WarmUpProgress(step, 12, 1, 1, 0.5, 12.5, seconds))
            report.show_line()

    shown = [line.split("  ")[3] for line in capsys.readouterr().err.splitlines()]
    assert shown == ["about 2 min to go", "about 2 min to go", "about 90 s to go"]


def test_on_a_terminal_there_is_a_bar_and_lines_stay_above_it(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)

    with WorkProgress("decoding") as progress:
        progress.update(3, 4)
        progress.say("a line")
        progress.show_line()

    assert not progress._teller.is_alive()
    assert "decoding: a line" in capsys.readouterr().err


def play(progress):
    progress.doing("making the stream")
    progress.started("tent", 100, "frames")
    progress.advanced(64, "error 25.0 %")
    progress.doing("tent: writing something")
    progress.advanced(100)
    progress.finished("tent", "error 24.00 %")


def test_a_log_gets_a_line_for_what_begins_and_one_for_each_part_that_ends(capsys):
    with RunProgress(2) as progress:
        play(progress)

    lines = ["making the stream", "tent: writing something", "1/2  tent  error 24.00 %  0 s"]
    assert capsys.readouterr().err.splitlines() == lines


def test_a_terminal_gets_a_bar_of_the_part_that_runs(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)

    with RunProgress(2) as progress:
        progress.started("tent", 100, "frames")
        loading = progress._bar.tasks[0].description
        play(progress)
        task = progress._bar.tasks[0]

    assert loading == "1/2  tent: loading"
    assert (task.description, task.completed, task.total) == ("1/2  tent", 100, 100)
    assert task.fields["state"] == "100 of 100 frames"
