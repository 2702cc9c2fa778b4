"""What a run shows of itself while it goes on."""

import io
import sys

import pytest

from ecotta_rt.bench.watch import BarWatch, LinesWatch, open_watch


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def on_a_terminal(monkeypatch):
    """Call it in the test: before that, pytest has its own stderr."""

    def begin():
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setattr(sys, "stderr", Terminal())
        return open_watch("methods", 2)

    return begin


def play(watch):
    watch.doing("making the stream")
    watch.started("tent", 100, "frames")
    watch.advanced(64, "error 25.0 %")
    watch.doing("tent: writing something")
    watch.advanced(100)
    watch.finished("tent", "error 24.00 %")


def test_a_log_gets_a_line_for_what_begins_and_one_for_each_part_that_ends(capsys):
    with open_watch("methods", 2) as watch:
        play(watch)

    assert isinstance(watch, LinesWatch)
    lines = ["making the stream", "tent: writing something", "1/2  tent  error 24.00 %  0 s"]
    assert capsys.readouterr().err.splitlines() == lines


def test_a_terminal_gets_bars_of_all_parts_and_of_the_one_that_runs(on_a_terminal):
    with on_a_terminal() as watch:
        play(watch)
        shown = {task.description: (task.completed, task.total, task.fields["note"]) for task in watch._bars.tasks}

    assert isinstance(watch, BarWatch)
    assert shown == {"methods": (1, 2, ""), "tent": (100, 100, "frames")}
    assert "methods" in sys.stderr.getvalue()


def test_a_part_is_loading_until_it_advances_and_its_note_stands_behind_the_unit(on_a_terminal):
    with on_a_terminal() as watch:
        watch.started("tent", 100, "frames")
        assert [task.description for task in watch._bars.tasks] == ["methods", "tent: loading"]
        watch.advanced(64, "error 25.0 %")
        assert [task.fields["note"] for task in watch._bars.tasks] == ["", "frames, error 25.0 %"]
