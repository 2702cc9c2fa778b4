import itertools
from threading import Event

import numpy as np
import pytest

from ecotta_rt.errors import Unavailable
from ecotta_rt.events import SourceLost
from ecotta_rt.machine.clock import ManualClock
from ecotta_rt.records import Frame
from ecotta_rt.sources import camera
from ecotta_rt.sources.camera import Camera, rtsp_camera, v4l2_camera
from ecotta_rt.sources.patience import GIVES_UP, RETRY_S, Patience, unending
from ecotta_rt.sources.pyav import Broken, Picture

PATIENCE_S = 30  # only a test that fails waits
PICTURE = Picture(np.zeros((2, 2, 3), np.uint8), None)


class Connections:
    """What each attempt to connect gives: pictures and waits, ending in an error or in the stream's end."""

    def __init__(self, clock, attempts):
        self.clock, self.attempts = clock, list(attempts)
        self.opened_s = []

    @property
    def opened(self):
        return len(self.opened_s)

    @property
    def waits_s(self):
        return [after - before for before, after in itertools.pairwise(self.opened_s)]

    def __call__(self):
        attempt = self.attempts[min(self.opened, len(self.attempts) - 1)]
        self.opened_s.append(self.clock.now_s())
        for step in attempt:
            if isinstance(step, Exception):
                raise step
            if isinstance(step, float):
                self.clock.advance_s(step)
            else:
                yield step


LOST = Unavailable("connection reset")


def open_camera(*attempts, patience=GIVES_UP):
    clock = ManualClock()
    connections = Connections(clock, attempts)
    return Camera(connections, "/dev/video0", "Is it plugged in?", clock, patience), connections


def test_a_camera_that_cannot_be_opened_is_an_error_at_once_with_advice():
    lens, connections = open_camera([LOST])

    with pytest.raises(Unavailable, match=r"/dev/video0: connection reset. Is it plugged in\?"):
        list(lens)

    assert connections.opened == 1


def test_a_lost_camera_is_tried_again_and_the_loss_is_told():
    lens, connections = open_camera([PICTURE, LOST], [LOST], [PICTURE, PICTURE, LOST])
    items = iter(lens)

    taken = [next(items) for _ in range(5)]

    assert [type(item) is Frame for item in taken] == [True, False, False, True, True]
    assert [item.index for item in taken] == [0, 1, 2, 3, 4]
    assert "lost (connection reset), trying again in 0.5 s" in taken[1].why
    assert connections.waits_s == [0.5, 1.0]


def test_the_waits_grow_to_a_bound_and_then_the_camera_is_given_up():
    lens, connections = open_camera([PICTURE, LOST], [LOST])

    with pytest.raises(Unavailable, match=f"after {len(RETRY_S)} attempts to connect again"):
        list(lens)

    assert connections.waits_s == list(RETRY_S)


def test_a_frame_begins_the_patience_anew():
    lens, connections = open_camera([PICTURE, LOST], [LOST], [LOST], [PICTURE, LOST])
    items = iter(lens)

    while connections.opened < 5:
        next(items)

    assert connections.waits_s == [0.5, 1.0, 2.0, 0.5]


def test_a_stream_that_ends_is_a_camera_that_was_lost():
    lens, _ = open_camera([PICTURE], [PICTURE])
    items = iter(lens)
    next(items)

    assert "the stream ended" in next(items).why


def test_damaged_pictures_are_refused_one_by_one():
    lens, _ = open_camera([Broken("corrupt"), PICTURE])
    items = iter(lens)

    assert next(items).why == "corrupt"
    assert next(items).index == 1


def test_a_closed_camera_is_neither_read_nor_tried_again():
    lens, connections = open_camera([PICTURE, LOST])
    items = iter(lens)
    next(items)

    lens.close()

    assert list(items) == []
    assert connections.opened == 1


def half():
    return 0.5


FOR_EVER = unending(draw=half)


def test_an_unending_patience_waits_for_a_camera_that_is_not_there_at_first():
    lens, connections = open_camera([LOST], [LOST], [LOST], [PICTURE], patience=FOR_EVER)

    lost, first = itertools.islice(lens, 2)

    assert (type(lost), lost.why) == (SourceLost, "not there (connection reset); tried again until it is back")
    assert (type(first), first.index) == (Frame, 1)
    assert (connections.opened, lens.attempts, lens.losses) == (4, 4, 1)


def test_an_unending_patience_can_be_told_not_to_wait_for_the_first_frame():
    lens, connections = open_camera([LOST], patience=unending(wait=False))

    with pytest.raises(Unavailable, match="connection reset"):
        list(lens)

    assert connections.opened == 1


def test_a_loss_is_told_once_and_the_waits_grow_to_a_minute_and_go_on():
    lens, connections = open_camera([PICTURE, 60.0, LOST], *12 * [[LOST]], [PICTURE], patience=FOR_EVER)

    items = list(itertools.islice(lens, 3))

    assert [type(item) for item in items] == [Frame, SourceLost, Frame]
    assert [item.index for item in items] == [0, 1, 2]
    assert "lost (connection reset); tried again" in items[1].why
    assert connections.waits_s[1:] == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, *6 * [30.0]]
    assert lens.losses == 1


def test_a_wait_is_a_drawn_share_of_the_longest():
    draws = iter([0.0, 0.25, 0.999])
    patience = Patience((8.0, 16.0), unending=True, from_start=True, random=lambda: next(draws))
    lens, connections = open_camera([LOST], [LOST], [LOST], [PICTURE], patience=patience)

    next(item for item in lens if isinstance(item, Frame))

    assert connections.waits_s == [0.0, 4.0, pytest.approx(15.984)]


def test_a_connection_that_breaks_again_and_again_is_left_in_peace():
    """A frame is no reason to hurry: the waits begin anew when a connection has stood for a while."""
    flaps, stands = [PICTURE, 1.0, LOST], [PICTURE, 20.0, PICTURE, LOST]
    lens, connections = open_camera(flaps, flaps, flaps, stands, [PICTURE], patience=FOR_EVER)

    kinds = [type(item) for item in itertools.islice(lens, 9)]

    assert kinds == [*3 * [Frame, SourceLost], Frame, Frame, SourceLost]
    assert connections.waits_s == [1.25, 1.5, 2.0]  # with the second that each connection stood


def test_an_error_that_nobody_expected_is_a_loss_where_nobody_is_there_to_start_again():
    lens, _ = open_camera([PICTURE, ValueError("bad codec")], [PICTURE], patience=FOR_EVER)

    assert "lost (ValueError: bad codec)" in list(itertools.islice(lens, 2))[1].why
    with pytest.raises(ValueError, match="bad codec"):
        list(open_camera([PICTURE, ValueError("bad codec")])[0])


def test_a_camera_that_is_closed_while_it_waits_waits_no_longer():
    class Closing(ManualClock):
        def sleep_s(self, seconds):
            super().sleep_s(seconds)
            lens.close()

    clock = Closing()
    lens = Camera(Connections(clock, [[LOST]]), "door", "", clock, Patience((60.0,), unending=True, from_start=True))

    assert [type(item) for item in lens] == [SourceLost]
    assert clock.now_s() <= 0.5


def test_frames_are_dated_by_their_driver_where_that_is_by_our_clock_and_never_go_back(subtests):
    dated = {95.5: 95.5, 99.0: 99.0, 98.0: 99.0, 3.0: 100.0, 1e9: 100.0}  # what the driver says, what is believed
    shown = [Picture(PICTURE.pixels, None, captured_s=at_s) for at_s in dated]
    lens = Camera(Connections(ManualClock(), [shown]), "door", "", ManualClock(100.0))

    frames = itertools.islice(lens, len(dated))

    assert [frame.time_s for frame in frames] == list(dated.values())


def test_a_read_that_hangs_is_a_loss_and_its_thread_is_left_behind():
    let_go = Event()

    def connect():
        yield PICTURE
        let_go.wait(PATIENCE_S)

    patience = Patience((0.0,), unending=True, from_start=True, hang_s=0.3)
    reads = camera.timed(connect, patience)
    lens = Camera(reads, "door", "", ManualClock(), patience)
    try:
        items = list(itertools.islice((item for item in lens if isinstance(item, SourceLost)), 2))
    finally:
        let_go.set()

    assert [item.why.partition(";")[0] for item in items] == 2 * ["lost (no picture for 0.3 s"]
    assert reads.left == 2


def test_a_device_that_is_not_there_is_told_with_those_that_are(tmp_path):
    with pytest.raises(Unavailable, match="no such device; there are: "):
        v4l2_camera(str(tmp_path / "video7"))


@pytest.mark.parametrize("password", ["secret", "sec/secret", "sec@secret/secret"])
def test_the_password_of_a_network_camera_is_never_shown(monkeypatch, password):
    pytest.importorskip("av", reason="PyAV is not installed: extra `camera`")
    asked = []

    def pictures(url, fail, **options):
        asked.append((url, options))
        yield PICTURE
        raise fail("connection reset")

    monkeypatch.setattr(camera, "pictures", pictures)
    items = iter(rtsp_camera(f"rtsp://user:{password}@host:554/one", ManualClock()))

    seen = [next(items), next(items)]

    assert asked[0][0] == f"rtsp://user:{password}@host:554/one"
    assert asked[0][1]["timeout_s"] > 0
    assert [item.name for item in seen] == 2 * ["rtsp://***@host:554/one"]
    assert "secret" not in seen[1].why


def test_a_network_camera_that_does_not_answer_is_told_without_its_password():
    """Nothing listens on port 9 of this machine."""
    pytest.importorskip("av", reason="PyAV is not installed: extra `camera`")

    with pytest.raises(Unavailable, match=r"rtsp://\*\*\*@127.0.0.1:9/x: .*ffprobe") as refusal:
        list(rtsp_camera("rtsp://user:secret@127.0.0.1:9/x", ManualClock()))

    assert "secret" not in str(refusal.value)
