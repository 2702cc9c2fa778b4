"""What every source promises, checked on each of them."""

import itertools
from contextlib import suppress
from pathlib import Path
from threading import Thread

import numpy as np
import pytest

from contract.checks import offenders
from ecotta_rt.errors import EcottaError, Unavailable
from ecotta_rt.events import Refusal
from ecotta_rt.machine.clock import ManualClock
from ecotta_rt.records import Frame
from ecotta_rt.sources.camera import RTSP, V4L2, Camera
from ecotta_rt.sources.http_camera import HTTP
from ecotta_rt.sources.images import PICTURES, Images
from ecotta_rt.sources.newest import Newest
from ecotta_rt.sources.opening import PLUGS
from ecotta_rt.sources.picamera import PICAMERA
from ecotta_rt.sources.pyav import Picture
from ecotta_rt.sources.replay import REPLAY, CifarReplay
from ecotta_rt.sources.standard_input import EVERY_FRAME, STDIN, StandardInput
from ecotta_rt.sources.synthetic import SYNTHETIC
from ecotta_rt.sources.video import FILM, VideoFile
from ecotta_rt.sources.watched_folder import WATCH, WatchedFolder, WatchOptions

COUNT = 5


def pixels(i):
    return np.full((32, 32, 3), 10 * i, np.uint8)


def images(folder):
    for i in range(COUNT):
        np.save(folder / f"{i}.npy", pixels(i))
    return Images(folder, ManualClock())


def replay(folder):
    np.save(folder / "labels.npy", np.arange(COUNT))
    np.save(folder / "fog.npy", np.stack([pixels(i) for i in range(COUNT)]))
    return CifarReplay(folder, clock=ManualClock())


def video(folder, realtime=False):
    av = pytest.importorskip("av", reason="PyAV is not installed: extra `camera`")
    with av.open(folder / "film.mkv", "w") as container:
        stream = container.add_stream("ffv1", rate=10)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "bgr0"
        for i in range(COUNT):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels(i), format="rgb24")))
        container.mux(stream.encode(None))
    return VideoFile(folder / "film.mkv", realtime=realtime, clock=ManualClock())


def camera(folder):
    """Shows five pictures, and breaks after that for good."""
    shown = iter(range(COUNT))

    def connect():
        for i in shown:
            yield Picture(pixels(i), None)
        raise Unavailable("unplugged")

    return Camera(connect, "camera", "Plug it in.", ManualClock())


def watched(folder):
    """A folder that goes away when its pictures have been read."""

    class Leaving(ManualClock):
        def sleep_s(self, seconds):
            super().sleep_s(seconds)
            if self.now_s() > 5:
                folder.rename(folder.with_name(f"{folder.name} gone"))

    images(folder)
    return WatchedFolder(folder, WatchOptions(old=True), Leaving())


def standard_input(folder):
    pieces = (b"P6 32 32 255 " + pixels(i).tobytes() for i in range(COUNT))
    return StandardInput(None, lambda count: next(pieces, b""), ManualClock())


SOURCES = {
    PICTURES: images,
    REPLAY: replay,
    FILM: video,
    V4L2: camera,
    RTSP: camera,
    SYNTHETIC: camera,
    HTTP: camera,
    PICAMERA: camera,
    WATCH: watched,
    STDIN: standard_input,
    EVERY_FRAME: standard_input,
    "video in real time": lambda folder: video(folder, realtime=True),
    "newest of images": lambda folder: Newest(images(folder)),
    "newest of a video in real time": lambda folder: Newest(video(folder, realtime=True)),
}


def taken(source):
    """All items until the source ends or fails, with an error of ours and no other."""
    items = []
    with suppress(EcottaError):
        items.extend(source)
    return items


def items_are_frames_or_refusals_and_frames_are_uint8_rgb(make):
    items = taken(make())
    frames = [item for item in items if isinstance(item, Frame)]

    assert frames
    assert all(isinstance(item, Frame | Refusal) for item in items)
    assert all(type(frame.pixels) is np.ndarray and frame.pixels.dtype == np.uint8 for frame in frames)
    assert all(frame.pixels.shape == (32, 32, 3) for frame in frames)
    assert all(isinstance(frame.name, str) for frame in frames)


def positions_rise_and_the_gaps_are_what_was_dropped(make):
    source = make()
    positions = [item.index for item in taken(source)]

    assert all(earlier < later for earlier, later in itertools.pairwise(positions))
    assert positions[-1] + 1 - len(positions) == source.dropped


def times_never_go_back(make):
    times_s = [item.time_s for item in taken(make()) if isinstance(item, Frame)]

    assert all(isinstance(time_s, float) for time_s in times_s)
    assert times_s == sorted(times_s)


def frames_do_not_share_memory(make):
    """A frame waits in a batch while the next ones are read."""
    frames = [item for item in taken(make()) if isinstance(item, Frame)]

    assert all(not np.shares_memory(a.pixels, b.pixels) for a, b in itertools.combinations(frames, 2))
    assert all((frame.pixels == frame.pixels[0, 0, 0]).all() for frame in frames)


def it_ends_when_it_was_closed_by_another_thread_twice(make):
    source = make()
    items = iter(source)
    next(items)

    for _ in range(2):
        thread = Thread(target=source.close)
        thread.start()
        thread.join()

    assert len(taken(items)) <= 1, "one frame may have been on its way"


def it_may_be_closed_before_the_first_frame(make):
    source = make()

    source.close()

    assert len(taken(source)) <= 1


def the_iteration_can_be_left_at_any_frame(make):
    items = iter(make())
    next(items)

    items.close()


CHECKS = (
    items_are_frames_or_refusals_and_frames_are_uint8_rgb,
    positions_rise_and_the_gaps_are_what_was_dropped,
    times_never_go_back,
    frames_do_not_share_memory,
    it_ends_when_it_was_closed_by_another_thread_twice,
    it_may_be_closed_before_the_first_frame,
    the_iteration_can_be_left_at_any_frame,
)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_every_source_keeps_it(check, tmp_path):
    assert offenders(check, SOURCES, tmp_path) == []


def test_every_plug_is_among_them():
    assert [plug.shown for plug in PLUGS if plug not in SOURCES] == []


@pytest.mark.parametrize("opening", [Images, CifarReplay, VideoFile])
@pytest.mark.parametrize("path", [Path("nowhere"), Path("/dev/null")])
def test_what_cannot_be_opened_is_an_error_of_ours_that_names_it(opening, path):
    with pytest.raises(EcottaError) as refusal:
        opening(path)

    assert str(path) in str(refusal.value)
