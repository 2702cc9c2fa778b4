"""Damage that FFmpeg paints over is found in what it complains of, and nobody learns from it."""

import logging
import os
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from ecotta_rt.errors import Unavailable
from ecotta_rt.machine.clock import ManualClock
from ecotta_rt.records import Frame
from ecotta_rt.runtime.loop import Loop
from ecotta_rt.sources.camera import Camera
from ecotta_rt.sources.pyav import pictures
from ecotta_rt.sources.video import VideoFile
from fixtures.kept import played

av = pytest.importorskip("av", reason="PyAV is not installed: extra `camera`")

FRAMES, KEY_EVERY, RATE_HZ = 60, 20, 25
SEEDS = range(6)


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    """Blocks that move, in H.264 with pictures made of earlier and of later ones."""
    path = tmp_path_factory.mktemp("film") / "film.mkv"
    scene = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8).repeat(6, 0).repeat(6, 1)
    options = {"g": str(KEY_EVERY), "keyint_min": str(KEY_EVERY), "sc_threshold": "0", "bf": "2"}
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=RATE_HZ, options=options)
        stream.height, stream.width, stream.pix_fmt = *scene.shape[:2], "yuv420p"
        for i in range(FRAMES):
            shown = np.ascontiguousarray(np.roll(scene, (2 * i, 3 * i), (0, 1)))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(shown, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def damaged(film, path, groups, seed, *, keys=False):
    """A copy in which, of those groups of pictures, the largest packet is noise from its 16th byte on.

    Noise in a small packet, or at the end of a large one, may well make sense to a decoder.
    """
    with av.open(film) as container:
        packets = [(packet.is_keyframe, bytes(packet)) for packet in container.demux(video=0) if packet.size]
    content, starts = film.read_bytes(), [i for i, (key, _) in enumerate(packets) if key]
    for group in groups:
        of_group = [packet for key, packet in packets[starts[group] :][:KEY_EVERY] if key == keys]
        packet = max(of_group, key=len)
        noise = np.random.default_rng(seed).integers(0, 256, len(packet) - 16, np.uint8).tobytes()
        assert content.count(packet) == 1
        content = content.replace(packet, packet[:16] + noise)
    path.write_bytes(content)
    return path


def position(frame):
    return round(float(frame.name.split()[-2]) * RATE_HZ)


def frames_of(path):
    return [item for item in VideoFile(path) if isinstance(item, Frame)]


def smeared(frames, film):
    """Positions of the frames that are not what was filmed."""
    whole = {position(frame): frame.pixels for frame in frames_of(film)}
    return {position(frame) for frame in frames if not np.array_equal(frame.pixels, whole[position(frame)])}


def test_no_frame_of_a_sound_film_is_damaged(film):
    frames = frames_of(film)

    assert len(frames) == FRAMES
    assert not any(frame.damaged for frame in frames)


@pytest.mark.parametrize("seed", SEEDS)
def test_every_smeared_frame_of_a_film_is_damaged_until_the_next_key_frame(film, tmp_path, seed):
    frames = frames_of(damaged(film, tmp_path / "film.mkv", [0], seed))

    marked = {position(frame) for frame in frames if frame.damaged}
    assert smeared(frames, film) <= marked
    assert marked
    assert max(marked) < KEY_EVERY, "what comes after the next key frame is learned from again"


@pytest.mark.parametrize("seed", SEEDS)
def test_a_damaged_key_frame_makes_nothing_good(film, tmp_path, seed):
    frames = frames_of(damaged(film, tmp_path / "film.mkv", [1], seed, keys=True))

    marked = {position(frame) for frame in frames if frame.damaged}
    assert smeared(frames, film) <= marked
    assert {position(frame) for frame in frames if position(frame) >= 2 * KEY_EVERY}.isdisjoint(marked)
    assert {position(frame) for frame in frames if KEY_EVERY < position(frame) < 2 * KEY_EVERY} <= marked


def test_the_same_complaint_twice_is_heard_twice(film, tmp_path):
    """FFmpeg logs a line that is the same as the one before only as a count."""
    path = damaged(film, tmp_path / "film.mkv", [0, 1, 2], 0)

    frames = frames_of(path)

    assert smeared(frames, film) <= {position(frame) for frame in frames if frame.damaged}


def test_what_ffmpeg_complains_of_reaches_no_terminal(film, tmp_path, capfd):
    frames_of(damaged(film, tmp_path / "film.mkv", [0], 0))

    said = capfd.readouterr()
    assert said.out + said.err == ""
    assert logging.getLogger("libav").hasHandlers()


def test_a_camera_marks_damage_as_a_film_does(film, tmp_path):
    path = damaged(film, tmp_path / "film.mkv", [0], 0)
    lens = Camera(partial(pictures, str(path), Unavailable, strict=False), "/dev/video0", "", ManualClock())
    taken = []
    for item in lens:
        if isinstance(item, Frame):
            taken.append(item)
        elif item.why.startswith("lost"):  # a film's end is for a camera a loss
            lens.close()

    marked = [item.damaged for item in taken]
    assert any(marked[:KEY_EVERY])
    assert not any(marked[KEY_EVERY:])
    assert len(marked) > 2 * KEY_EVERY


@pytest.mark.parametrize("batch", [1, 4])
def test_a_batch_with_a_damaged_frame_is_answered_and_neither_learned_from_nor_followed(make_engine, batch):
    engine = make_engine(batch=batch)
    held = []
    predict = engine.predict
    engine.predict = lambda frames, hold_statistics=False, count=None: held.append(hold_statistics) or predict(frames)
    frames = [Frame(np.zeros((2, 2, 3), np.uint8), i, 0.0, str(i)) for i in range(8)]
    frames[5] = replace(frames[5], damaged=True)

    sink, tally = played(Loop(Source(frames), engine, clock=ManualClock()))

    whys = [answer.why for answer in sink.answers]
    assert [i for i, why in enumerate(whys) if why == "damaged"] == ([5] if batch == 1 else [4, 5, 6, 7])
    assert [answer.adapted for answer in sink.answers] == [why == "adapted" for why in whys]
    assert held == [True]
    assert (tally.damaged, tally.offered) == (1, 7 if batch == 1 else 1)
    assert "1 damaged and not learned from" in str(tally)


class Source:
    dropped = 0

    def __init__(self, frames):
        self.frames = frames

    def __iter__(self):
        yield from self.frames

    def close(self):
        pass


@pytest.mark.skipif("ECOTTA_DATA" not in os.environ, reason="$ECOTTA_DATA is not set")
def test_a_film_of_a_street_is_whole_and_its_damaged_copy_is_not(tmp_path):
    path = Path(os.environ["ECOTTA_DATA"]) / "video/cars_8s.mp4"
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 4096] = np.random.default_rng(0).integers(0, 256, 4096, np.uint8).tobytes()
    (tmp_path / "cars.mp4").write_bytes(content)

    assert not any(frame.damaged for frame in frames_of(path))
    assert any(frame.damaged for frame in frames_of(tmp_path / "cars.mp4"))
