import numpy as np
import pytest

from ecotta_rt.errors import InputFileError, Unavailable, UsageError
from ecotta_rt.machine.clock import ManualClock
from ecotta_rt.sources.images import Images
from ecotta_rt.sources.newest import Newest
from ecotta_rt.sources.opening import open_camera, open_source
from ecotta_rt.sources.patience import unending
from ecotta_rt.sources.replay import CifarReplay
from ecotta_rt.sources.video import VideoFile


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    np.save(folder / "1.npy", np.zeros((2, 2, 3), np.uint8))
    return folder


@pytest.fixture
def replay(tmp_path):
    np.save(tmp_path / "labels.npy", np.arange(10))
    np.save(tmp_path / "fog.npy", np.zeros((10, 32, 32, 3), np.uint8))
    return tmp_path


@pytest.fixture
def film(tmp_path):
    pytest.importorskip("av", reason="PyAV is not installed: extra `camera`")
    (tmp_path / "film.mp4").write_bytes(b"")
    return tmp_path / "film.mp4"


def test_a_folder_or_a_picture_is_a_source_of_pictures(pictures):
    assert type(open_source(str(pictures))) is Images
    assert type(open_source(str(pictures / "1.npy"))) is Images


def test_of_a_film_every_frame_comes_unless_it_plays_in_real_time(film):
    assert type(open_source(str(film))) is VideoFile
    assert type(open_source(str(film), realtime=True)) is Newest


def test_of_a_network_camera_the_newest_frame_wins():
    pytest.importorskip("av", reason="PyAV is not installed: extra `camera`")

    assert type(open_source("rtsp://host/one")) is Newest


@pytest.mark.parametrize(("tail", "frames"), [("", 10), (":fog", 10), (":fog:2", 2)])
def test_a_replay_names_folder_corruption_and_severity(replay, tail, frames):
    source = open_source(f"replay:{replay}{tail}", classes=10)

    assert type(source) is CifarReplay
    assert len(list(source)) == frames


def test_what_cannot_be_meant_is_a_usage_error(subtests):
    for text in ["replay:", "replay:x:fog:five", "replay:x:fog:-1", "ftp://host/a.mp4", "concat://a"]:
        with subtests.test(text=text), pytest.raises(UsageError):
            open_source(text)


def test_a_replay_whose_labels_do_not_fit_is_refused(replay):
    with pytest.raises(InputFileError, match="label 5 at position 5, expected 0 to 4"):
        open_source(f"replay:{replay}", classes=5)


def test_real_time_is_for_films_only(pictures, replay):
    for text in (str(pictures), f"replay:{replay}", "/dev/video0", "rtsp://host/one"):
        with pytest.raises(UsageError, match="--realtime is for films"):
            open_source(text, realtime=True)


def test_what_is_not_there_is_told_with_all_that_could_be():
    with pytest.raises(InputFileError, match=r"nowhere: no such file or folder; a source is .*/dev/video0.*replay:"):
        open_source("nowhere")
    with pytest.raises(Unavailable, match="/dev/video-none: no such device"):
        open_source("/dev/video-none")


def test_a_daemon_is_given_the_bare_source_and_told_whether_it_waits(film, pictures):
    lens = open_camera("synthetic:door?fps=1&size=8x8", unending(), clock=ManualClock(7.0))
    folder = open_camera(str(pictures), unending())

    assert next(iter(lens.source)).time_s >= 7.0
    assert (lens.live, open_camera(str(film), unending()).live, folder.live) == (True, True, False)
    assert type(folder.source) is Images


def test_a_daemon_waits_for_a_device_that_is_not_there_unless_it_is_told_not_to():
    pytest.importorskip("av", reason="PyAV is not installed: extra `camera`")
    waited_for = iter(open_camera("/dev/video-none", unending(), clock=ManualClock()).source)

    assert "not there" in next(waited_for).why
    with pytest.raises(Unavailable, match="/dev/video-none: no such device"):
        open_camera("/dev/video-none", unending(wait=False))
