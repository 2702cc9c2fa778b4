"""What a run shows of itself while it goes on."""

import io
import sys

import pytest

from ecotta_rt.bench.run_progress import BarProgress, LinesProgress, open_progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def on_a_terminal(monkeypatch):
    """Call it in the test: before that, pytest has its own stderr."""
    pytest.importorskip("rich")

    def begin():
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setattr(sys, "stderr", Terminal())
        return open_progress("methods", 2)

    return begin


def play(progress):
    progress.doing("making the stream")
    progress.started("tent", 100, "frames")
    progress.advanced(64, "error 25.0 %")
    progress.doing("tent: writing something")
    progress.advanced(100)
    progress.finished("tent", "error 24.00 %")


def test_a_log_gets_a_line_for_what_begins_and_one_for_each_part_that_ends(capsys):
    with open_progress("methods", 2) as progress:
        play(progress)

    assert isinstance(progress, LinesProgress)
    lines = ["making the stream", "tent: writing something", "1/2  tent  error 24.00 %  0 s"]
    assert capsys.readouterr().err.splitlines() == lines


def test_a_terminal_gets_bars_of_all_parts_and_of_the_one_that_runs(on_a_terminal):
    with on_a_terminal() as progress:
        play(progress)
        shown = {task.description: (task.completed, task.total, task.fields["note"]) for task in progress._bars.tasks}

    assert isinstance(progress, BarProgress)
    assert shown == {"methods": (1, 2, ""), "tent": (100, 100, "frames")}
    assert "methods" in sys.stderr.getvalue()


def test_a_part_is_loading_until_it_advances_and_its_note_stands_behind_the_unit(on_a_terminal):
    with on_a_terminal() as progress:
        progress.started("tent", 100, "frames")
        assert [task.description for task in progress._bars.tasks] == ["methods", "tent: loading"]
        progress.advanced(64, "error 25.0 %")
        assert [task.fields["note"] for task in progress._bars.tasks] == ["", "frames, error 25.0 %"]
