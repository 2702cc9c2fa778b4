import signal
from threading import Event, main_thread

import numpy as np
import pytest

from ecotta_rt.errors import Unavailable
from ecotta_rt.records import Frame
from ecotta_rt.sources.newest import Newest

PATIENCE_S = 30  # only a test that fails waits


def frame(index):
    return Frame(np.zeros((1, 1, 3), np.uint8), index, 0.0)


class Scripted:
    """A source that plays a generator."""

    dropped = 0

    def __init__(self, play):
        self._play = play
        self.closed = Event()

    def __iter__(self):
        yield from self._play(self)

    def close(self):
        self.closed.set()


def test_the_loop_gets_the_newest_frame_and_the_others_are_counted():
    first_taken, three_captured, go_on = Event(), Event(), Event()

    def play(source):
        yield frame(0)
        first_taken.wait(PATIENCE_S)
        yield from (frame(1), frame(2), frame(3))
        three_captured.set()  # runs when the thread has put frame 3 down
        go_on.wait(PATIENCE_S)

    newest = Newest(Scripted(play))
    items = iter(newest)

    assert next(items).index == 0
    first_taken.set()
    assert three_captured.wait(PATIENCE_S)
    assert next(items).index == 3
    assert newest.dropped == 2
    go_on.set()
    assert list(items) == []
    assert newest.dropped == 2


def test_the_last_frame_of_a_stream_that_has_ended_is_still_handed_out():
    ended = Event()

    def play(source):
        yield frame(0)
        yield frame(1)
        ended.set()

    items = iter(Newest(Scripted(play)))
    last = next(items)
    assert ended.wait(PATIENCE_S)

    assert [item.index for item in (last, *items)][-1] == 1


def test_an_error_of_the_source_is_raised_where_the_frames_are_taken():
    def play(source):
        yield frame(0)
        raise Unavailable("camera lost")

    with pytest.raises(Unavailable, match="camera lost"):
        list(Newest(Scripted(play)))


def test_closing_wakes_a_loop_that_waits_for_a_frame_and_tells_the_source():
    def play(source):
        yield frame(0)
        source.closed.wait(PATIENCE_S)  # a camera that shows nothing more

    source = Scripted(play)
    newest = Newest(source)
    items = iter(newest)
    next(items)

    newest.close()
    newest.close()

    assert list(items) == []
    assert source.closed.is_set()


def test_a_source_that_goes_on_after_closing_does_not_keep_the_loop():
    """The thread may be putting a frame down at the very moment when the place is closed."""
    closed, frame_put = Event(), Event()

    def play(source):
        yield frame(0)
        closed.wait(PATIENCE_S)
        yield frame(1)
        frame_put.set()

    newest = Newest(Scripted(play))
    items = iter(newest)
    next(items)
    newest.close()
    closed.set()
    assert frame_put.wait(PATIENCE_S)

    assert list(items) == []
    assert newest.dropped == 0


def test_ending_the_iteration_closes_the_source():
    source = Scripted(lambda source: iter([frame(0), frame(1)]))
    items = iter(Newest(source))
    next(items)

    items.close()

    assert source.closed.is_set()


def test_a_signal_handler_may_close_it_while_the_loop_waits_for_a_frame():
    """The handler runs in the very thread that waits; a lock of ours would never come free."""

    def play(source):
        yield frame(0)
        signal.pthread_kill(main_thread().ident, signal.SIGUSR1)
        source.closed.wait(PATIENCE_S)

    source = Scripted(play)
    newest = Newest(source)
    before = signal.signal(signal.SIGUSR1, lambda number, stack: newest.close())
    try:
        assert [item.index for item in newest] == [0]
    finally:
        signal.signal(signal.SIGUSR1, before)

    assert source.closed.is_set()
