import threading
from threading import Event

import pytest

from ecotta_rt.errors import Unavailable
from ecotta_rt.sources.timed_reads import MOST_LEFT, TimedReads

PATIENCE_S = 30  # only a test that fails waits
HANG_S = 0.02


def names():
    return sorted(thread.name for thread in threading.enumerate())


def test_pictures_come_in_order_and_the_thread_ends_with_them():
    before = names()

    assert list(TimedReads(lambda: iter_of(range(50)), PATIENCE_S)()) == list(range(50))

    join_cameras()
    assert names() == before


def iter_of(values):
    yield from values


def join_cameras():
    for thread in threading.enumerate():
        if thread.name == "camera":
            thread.join(PATIENCE_S)


def test_an_error_comes_where_the_pictures_are_taken():
    def connect():
        yield 1
        raise Unavailable("unplugged")

    shown = TimedReads(connect, PATIENCE_S)()

    assert next(shown) == 1
    with pytest.raises(Unavailable, match="unplugged"):
        next(shown)


def test_one_that_is_left_early_closes_its_connection():
    closed = Event()

    def connect():
        try:
            while True:
                yield 1
        finally:
            closed.set()

    shown = TimedReads(connect, PATIENCE_S)()
    next(shown)
    shown.close()

    assert closed.wait(PATIENCE_S)
    join_cameras()


def test_a_read_that_hangs_is_left_behind_and_never_more_than_a_few():
    let_go, opened = Event(), []

    def connect():
        opened.append(1)
        let_go.wait(PATIENCE_S)
        yield from ()

    reads = TimedReads(connect, HANG_S)
    for _ in range(MOST_LEFT):
        with pytest.raises(Unavailable, match=r"no picture for 0.02 s; the read that hangs is left behind"):
            next(reads())
    with pytest.raises(Unavailable, match=f"{MOST_LEFT} reads hang in its driver"):
        next(reads())

    assert (len(opened), reads.left) == (MOST_LEFT, MOST_LEFT)
    let_go.set()
    join_cameras()
    assert list(reads()) == [], "when its driver lets go it is tried again"
