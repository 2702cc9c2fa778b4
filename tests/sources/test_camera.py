import numpy as np
import pytest

from ecotta_rt.errors import Unavailable
from ecotta_rt.machine.clock import ManualClock
from ecotta_rt.records import Frame
from ecotta_rt.sources import camera
from ecotta_rt.sources.camera import RETRY_S, Camera, rtsp_camera, v4l2_camera
from ecotta_rt.sources.pyav import Broken, Picture

PICTURE = Picture(np.zeros((2, 2, 3), np.uint8), None)


class Connections:
    """What each attempt to connect gives: a list of pictures, ending in an error or in the stream's end."""

    def __init__(self, *attempts):
        self.attempts = list(attempts)
        self.opened = 0

    def __call__(self):
        attempt = self.attempts[min(self.opened, len(self.attempts) - 1)]
        self.opened += 1
        for step in attempt:
            if isinstance(step, Exception):
                raise step
            yield step


LOST = Unavailable("connection reset")


def open_camera(*attempts):
    clock = ManualClock()
    connections = Connections(*attempts)
    return Camera(connections, "/dev/video0", "Is it plugged in?", clock), connections, clock


def test_a_camera_that_cannot_be_opened_is_an_error_at_once_with_advice():
    lens, connections, clock = open_camera([LOST])

    with pytest.raises(Unavailable, match=r"/dev/video0: connection reset. Is it plugged in\?"):
        list(lens)

    assert connections.opened == 1
    assert clock.slept_s == []


def test_a_lost_camera_is_tried_again_and_the_loss_is_told():
    lens, connections, clock = open_camera([PICTURE, LOST], [LOST], [PICTURE, PICTURE, LOST])
    items = iter(lens)

    taken = [next(items) for _ in range(5)]

    assert [type(item) is Frame for item in taken] == [True, False, False, True, True]
    assert [item.index for item in taken] == [0, 1, 2, 3, 4]
    assert "lost (connection reset), trying again in 0.5 s" in taken[1].why
    assert clock.slept_s == [0.5, 1.0]
    assert connections.opened == 3


def test_the_waits_grow_to_a_bound_and_then_the_camera_is_given_up():
    lens, connections, clock = open_camera([PICTURE, LOST], [LOST])

    with pytest.raises(Unavailable, match=f"after {len(RETRY_S)} attempts to connect again"):
        list(lens)

    assert clock.slept_s == list(RETRY_S)
    assert connections.opened == 1 + len(RETRY_S)


def test_a_frame_begins_the_patience_anew():
    lens, _, clock = open_camera([PICTURE, LOST], [LOST], [LOST], [PICTURE, LOST])
    items = iter(lens)

    while len(clock.slept_s) < 4:
        next(items)

    assert clock.slept_s == [0.5, 1.0, 2.0, 0.5]


def test_a_stream_that_ends_is_a_camera_that_was_lost():
    lens, _, _ = open_camera([PICTURE], [PICTURE])
    items = iter(lens)
    next(items)

    assert "the stream ended" in next(items).why


def test_damaged_pictures_are_refused_one_by_one():
    lens, _, _ = open_camera([Broken("corrupt"), PICTURE])
    items = iter(lens)

    assert next(items).why == "corrupt"
    assert next(items).index == 1


def test_a_closed_camera_is_neither_read_nor_tried_again():
    lens, connections, clock = open_camera([PICTURE, LOST])
    items = iter(lens)
    next(items)

    lens.close()

    assert list(items) == []
    assert (connections.opened, clock.slept_s) == (1, [])


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
