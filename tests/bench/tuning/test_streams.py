"""The streams that settings are tried on."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecotta_rt.bench.tuning import streams
from ecotta_rt.bench.tuning.measuring import difference, mean_error
from ecotta_rt.bench.tuning.streams import RUN, make_streams, require_corruptible
from ecotta_rt.bundle import FrameSpec
from ecotta_rt.data.corruptions import corrupt
from ecotta_rt.data.corruptions.any_shape import corrupt_any
from ecotta_rt.errors import InputFileError, UsageError

NAMES = ("fog", "contrast")


class Numbered:
    """Pictures of one colour each, of which some cannot be decoded."""

    def __init__(self, labels, damaged=()):
        self.labels, self.damaged = np.array(labels), damaged

    def frames(self, places, frame, store, report=None):
        there = ~np.isin(places, self.damaged)
        values = places[there].astype(np.uint8)[:, None, None, None]
        return np.broadcast_to(values, (there.sum(), *frame.size, frame.channels)).copy(), there


def made(pictures, count=60, frame=None, seed=0):
    frame, how = frame or FrameSpec(3, 8, 8), {"severity": 5, "seed": seed, "store": Path("unused")}
    return make_streams(pictures, frame, NAMES, count, say=lambda *_: None, **how)


@pytest.fixture
def uncorrupted(monkeypatch):
    """The pictures as they are, so that one can tell which they were."""
    monkeypatch.setattr(streams, "corrupt_any", lambda frames, *_, **__: frames)


@settings(max_examples=20)
@given(classes=st.integers(2, 200), each=st.integers(1, 3), count=st.integers(20, 100), seed=st.integers(0, 5))
def test_one_order_is_at_random_and_one_in_runs_whatever_the_number_of_classes(classes, each, count, seed):
    labels = np.tile(np.arange(classes), each)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(streams, "corrupt_any", lambda frames, *_, **__: frames)
        shuffled, in_runs = made(Numbered(labels), count, seed=seed)

    assert len(shuffled.labels) == len(in_runs.labels) == 2 * count
    whole = in_runs.labels[: 2 * count // RUN * RUN].reshape(-1, RUN)
    assert (whole == whole[:, :1]).all()
    first = whole[:classes, 0]
    assert len(set(first)) == len(first)  # through all classes before any comes again
    assert np.bincount(shuffled.labels, minlength=classes).max() <= -(-2 * count // len(labels)) * each


def test_each_frame_has_the_label_of_its_picture(uncorrupted):
    labels = np.arange(50) % 7

    for stream in made(Numbered(labels)):
        assert (labels[stream.frames[:, 0, 0, 0]] == stream.labels).all()


def test_pictures_that_cannot_be_decoded_are_left_out_and_few_that_can_are_refused(uncorrupted):
    labels = np.arange(50) % 7

    for stream in made(Numbered(labels, damaged=(3, 4))):
        assert (labels[stream.frames[:, 0, 0, 0]] == stream.labels).all()
        assert not np.isin(stream.frames[:, 0, 0, 0], (3, 4)).any()
    with pytest.raises(InputFileError, match="of 50 pictures cannot be decoded"):
        made(Numbered(labels, damaged=range(40)))


def test_grey_and_oblong_frames_are_corrupted_too():
    for stream in made(Numbered(np.arange(50) % 7), frame=FrameSpec(1, 8, 12)):
        assert stream.frames.shape[1:] == (8, 12, 1)

    frames = np.random.default_rng(0).integers(0, 256, (2, 12, 12, 3), np.uint8)
    square = corrupt_any(frames, "fog", severity=5, seed=0)
    assert np.array_equal(square, corrupt(frames, "fog"))


def test_frames_too_small_to_be_corrupted_are_refused():
    with pytest.raises(UsageError, match="4 x 4 pixels are too small"):
        require_corruptible(FrameSpec(3, 4, 4))


def test_the_standard_error_is_that_of_blocks_by_hand():
    wrong = np.repeat([True, False, True, True], RUN)

    found = mean_error([wrong, wrong])

    assert found.points == 75
    assert found.standard_error == pytest.approx(100 * np.sqrt(0.25 / 4) / np.sqrt(2))
    assert difference([wrong], [wrong]).standard_error == 0
    assert difference([wrong], [np.zeros(4 * RUN, bool)]).points == 75
