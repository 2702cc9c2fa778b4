"""What every source promises, checked on each of them."""

import itertools
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from ecotta_rt.errors import EcottaError, Unavailable
from ecotta_rt.machine.clock import ManualClock
from ecotta_rt.records import Frame, Refusal
from ecotta_rt.sources.camera import Camera
from ecotta_rt.sources.images import Images
from ecotta_rt.sources.newest import Newest
from ecotta_rt.sources.pyav import Picture
from ecotta_rt.sources.replay import CifarReplay
from ecotta_rt.sources.video import VideoFile

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


SOURCES = {
    "images": images,
    "replay": replay,
    "video": video,
    "video in real time": lambda folder: video(folder, realtime=True),
    "camera": camera,
    "newest of images": lambda folder: Newest(images(folder)),
    "newest of a video in real time": lambda folder: Newest(video(folder, realtime=True)),
}

EVERY = pytest.mark.parametrize("make", SOURCES.values(), ids=SOURCES)


def taken(source):
    """All items until the source ends or fails, with an error of ours and no other."""
    items = []
    with suppress(EcottaError):
        items.extend(source)
    return items


@EVERY
def test_items_are_frames_or_refusals_and_frames_are_uint8_rgb(make, tmp_path):
    items = taken(make(tmp_path))
    frames = [item for item in items if isinstance(item, Frame)]

    assert frames
    assert all(isinstance(item, Frame | Refusal) for item in items)
    assert all(type(frame.pixels) is np.ndarray and frame.pixels.dtype == np.uint8 for frame in frames)
    assert all(frame.pixels.shape == (32, 32, 3) for frame in frames)
    assert all(isinstance(frame.time_s, float) and isinstance(frame.name, str) for frame in frames)


@EVERY
def test_positions_rise_and_the_gaps_are_what_was_dropped(make, tmp_path):
    source = make(tmp_path)
    positions = [item.index for item in taken(source)]

    assert all(earlier < later for earlier, later in itertools.pairwise(positions))
    assert positions[-1] + 1 - len(positions) == source.dropped


@EVERY
def test_frames_do_not_share_memory(make, tmp_path):
    """A frame waits in a batch while the next ones are read."""
    frames = [item for item in taken(make(tmp_path)) if isinstance(item, Frame)]

    assert all(not np.shares_memory(a.pixels, b.pixels) for a, b in itertools.combinations(frames, 2))
    assert all((frame.pixels == frame.pixels[0, 0, 0]).all() for frame in frames)


@EVERY
def test_a_source_that_was_closed_ends_and_closing_twice_is_fine(make, tmp_path):
    source = make(tmp_path)
    items = iter(source)
    next(items)

    source.close()
    source.close()

    assert len(taken(items)) <= 1, "one frame may have been on its way"


@EVERY
def test_closing_before_the_first_frame_is_fine(make, tmp_path):
    source = make(tmp_path)

    source.close()

    assert len(taken(source)) <= 1


@EVERY
def test_the_iteration_can_be_left_at_any_frame(make, tmp_path):
    items = iter(make(tmp_path))
    next(items)

    items.close()


@pytest.mark.parametrize("opening", [Images, CifarReplay, VideoFile])
@pytest.mark.parametrize("path", [Path("nowhere"), Path("/dev/null")])
def test_what_cannot_be_opened_is_an_error_of_ours_that_names_it(opening, path):
    with pytest.raises(EcottaError) as refusal:
        opening(path)

    assert str(path) in str(refusal.value)
