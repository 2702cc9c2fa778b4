import itertools
import shutil
import struct
import subprocess

import numpy as np
import pytest

from ecotta_rt.errors import InputFileError
from ecotta_rt.events import Refusal
from ecotta_rt.machine.clock import ManualClock
from ecotta_rt.records import Frame
from ecotta_rt.sources.video import VideoFile

av = pytest.importorskip("av", reason="PyAV is not installed: extra `camera`")

FRAMES, RATE_HZ = 8, 10


def write_film(path, codec="ffv1", pix_fmt="bgr0", frames=FRAMES):
    """A film that gets brighter: frame i has the grey level 20 i."""
    with av.open(path, "w") as container:
        stream = container.add_stream(codec, rate=RATE_HZ)
        stream.width, stream.height, stream.pix_fmt = 64, 48, pix_fmt
        for i in range(frames):
            picture = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 20 * i, np.uint8), format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    return path


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    return write_film(tmp_path_factory.mktemp("film") / "odd:name 100%d.mkv")


def test_every_frame_of_a_film_comes_in_order_with_its_time(film):
    frames = list(VideoFile(film))

    assert [frame.index for frame in frames] == list(range(FRAMES))
    assert [frame.pixels[0, 0].tolist() for frame in frames] == [[20 * i] * 3 for i in range(FRAMES)]
    assert frames[3].name == "odd:name 100%d.mkv at 0.300 s"
    assert frames[0].pixels.shape == (48, 64, 3)


def test_a_film_is_not_slowed_down_unless_asked(film):
    clock = ManualClock()

    list(VideoFile(film, clock=clock))

    assert clock.slept_s == []


def test_in_real_time_a_frame_waits_for_its_moment(film):
    clock = ManualClock(100.0)

    frames = list(VideoFile(film, realtime=True, clock=clock))

    assert [frame.time_s for frame in frames] == pytest.approx([100 + i / RATE_HZ for i in range(FRAMES)])


def test_in_real_time_nobody_waits_for_a_frame_that_is_late(film):
    clock = ManualClock()
    frames = iter(VideoFile(film, realtime=True, clock=clock))
    next(frames)
    clock.advance_s(0.45)

    late = [next(frames).time_s for _ in range(5)]

    assert late == pytest.approx([0.45, 0.45, 0.45, 0.45, 0.5])


def test_damage_in_the_middle_is_refused_and_the_film_goes_on(tmp_path):
    path = write_film(tmp_path / "film.avi", "mjpeg", "yuvj420p")
    content = path.read_bytes()
    third = [at for at in range(len(content)) if content.startswith(b"\xff\xd8", at)][2]
    # The table of Huffman codes of the third picture.
    table = content.index(b"\xff\xc4", third) + 4
    path.write_bytes(content[:table] + b"\xff" * 40 + content[table + 40 :])

    items = list(VideoFile(path))

    assert [type(item) for item in items] == [Frame, Frame, Refusal, *(FRAMES - 3) * [Frame]]
    assert "cannot be decoded" in items[2].why


@pytest.mark.parametrize("content", [b"", b"not a film" * 100, b"#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n"])
def test_what_is_no_film_is_refused(tmp_path, content):
    path = tmp_path / "film.mp4"
    path.write_bytes(content)

    with pytest.raises(InputFileError, match="film.mp4: .*expected a film"):
        list(VideoFile(path))


def test_a_playlist_cannot_lead_to_the_network(tmp_path):
    path = tmp_path / "film.m3u8"
    path.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n")

    with pytest.raises(InputFileError):
        list(VideoFile(path))


def test_a_truncated_film_gives_what_is_there_and_ends_or_is_refused(film, tmp_path):
    whole = film.read_bytes()
    path = tmp_path / "cut.mkv"
    path.write_bytes(whole[: len(whole) // 2])

    frames = [item for item in VideoFile(path) if isinstance(item, Frame)]

    assert 0 < len(frames) < FRAMES


def test_sound_without_pictures_is_refused(tmp_path):
    path = tmp_path / "song.mkv"
    with av.open(path, "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        sound.sample_rate = 8000
        container.mux(stream.encode(sound))

    with pytest.raises(InputFileError, match="no video stream"):
        list(VideoFile(path))


def test_a_missing_film_is_refused_at_once(tmp_path):
    with pytest.raises(InputFileError, match="no such file"):
        VideoFile(tmp_path / "gone.mp4")


QUARTER = {90: (0, -1, 1, 0), 180: (-1, 0, 0, -1), 270: (0, 1, -1, 0)}  # anticlockwise; the matrix's a, b, c, d


FFMPEG = {
    "libx264": "film.mp4",
    "libx265": "film.mkv",
    "mpeg4": "film.avi",
    "mjpeg": "film.mov",
    "libvpx-vp9": "film.webm",
}


@pytest.mark.parametrize("codec", FFMPEG)
def test_films_of_the_ffmpeg_program_are_read_to_their_end(codec, tmp_path):
    ffmpeg, path = shutil.which("ffmpeg"), tmp_path / FFMPEG[codec]
    if ffmpeg is None:
        pytest.skip("no ffmpeg here")
    made = f"{ffmpeg} -v error -f lavfi -i testsrc=size=64x48:rate=10:duration=1 -pix_fmt yuv420p -c:v {codec}".split()
    done = subprocess.run([*made, str(path)], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"this ffmpeg does not write {codec}: {done.stderr.strip().splitlines()[-1:]}")

    frames = list(VideoFile(path))

    assert [frame.pixels.shape for frame in frames] == 10 * [(48, 64, 3)]
    assert not any(frame.damaged for frame in frames)


def test_a_real_film_plays_at_its_own_pace(ecotta_data):
    films = sorted((ecotta_data / "video").glob("*.mp4")) if (ecotta_data / "video").is_dir() else []
    if not films:
        pytest.skip("no film in ECOTTA_DATA/video")
    film = VideoFile(films[0], realtime=True, clock=ManualClock())

    frames = list(itertools.islice(film, 40))

    times_s = [frame.time_s for frame in frames]
    assert len(frames) == 40
    assert times_s == sorted(times_s)
    assert 0.5 < times_s[-1] < 10
    assert not any(frame.damaged for frame in frames)


@pytest.mark.parametrize("angle", sorted(QUARTER))
def test_a_film_held_otherwise_is_turned_upright(tmp_path, angle):
    path, picture = tmp_path / "film.mp4", np.zeros((48, 64, 3), np.uint8)
    picture[:24, :32] = 255
    with av.open(path, "w") as container:
        stream = container.add_stream("mpeg4", rate=RATE_HZ)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        container.mux([*stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")), *stream.encode(None)])
    content = bytearray(path.read_bytes())
    a, b, c, d = (value << 16 & 0xFFFFFFFF for value in QUARTER[angle])
    at = content.index(b"tkhd") + 44  # version, times, track, length, layer, volume, as ISO 14496-12 orders them
    content[at : at + 36] = struct.pack(">9I", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(content)

    (frame,) = VideoFile(path)

    expected = np.rot90(picture, angle // 90)
    assert frame.pixels.shape == expected.shape
    assert np.abs(frame.pixels.astype(int) - expected).mean() < 8  # of 255; the codec has losses
