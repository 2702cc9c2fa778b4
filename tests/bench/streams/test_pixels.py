"""The pictures of a plan are those it names, and no image is corrupted twice."""

import numpy as np
import pytest

from ecotta_rt.bench.recording import Recording
from ecotta_rt.bench.streams import Kind, plan_stream
from ecotta_rt.bench.streams.pixels import frames_of, record_plan
from ecotta_rt.data import corrupted
from ecotta_rt.data.corruptions import corrupt
from ecotta_rt.data.image_sets import EMBEDDED, find_image_set

TWO = ("contrast", "brightness")


@pytest.fixture(scope="module")
def images():
    return find_image_set(EMBEDDED)


def planned(images, protocol, frames=4, seed=0):
    return plan_stream(protocol, images.labels, TWO, frames, severity=3, seed=seed)


@pytest.mark.parametrize("protocol", ["mixed", "gradual", "clean"])
def test_each_frame_is_its_image_under_its_corruption(images, protocol):
    plan = planned(images, protocol)

    frames = frames_of(plan, images)

    for frame, image, number, severity in zip(frames, plan.images, plan.corruptions, plan.severities, strict=True):
        expected = images.clean(np.array([image]))
        if severity:
            name = plan.names[number]
            expected = corrupt(expected, name, severity=int(severity), seed=0, indices=np.array([image]))
        np.testing.assert_array_equal(frame, expected[0])


def test_garbage_is_what_it_is_called(images):
    plan = planned(images, "garbage", frames=7)

    frames = frames_of(plan, images)

    assert (frames[plan.kinds == Kind.BLACK] == 0).all()
    noise, other = frames[plan.kinds == Kind.NOISE], frames[plan.kinds == Kind.OTHER]
    assert abs(noise.mean() - 127.5) < 5
    assert other.std() > 5
    assert np.abs(np.diff(other.astype(int), axis=2)).mean() < np.abs(np.diff(noise.astype(int), axis=2)).mean()
    np.testing.assert_array_equal(frames, frames_of(plan, images))


def test_streams_share_the_images_that_were_corrupted_for_one_of_them(images, tmp_path, monkeypatch):
    kept = find_image_set(EMBEDDED, tmp_path)
    first = frames_of(planned(kept, "continual"), kept)

    def forbidden(*args, **kwargs):
        raise AssertionError("corrupted anew")

    monkeypatch.setattr(corrupted, "corrupt", forbidden)
    again = frames_of(planned(kept, "sorted"), kept)

    assert sorted(frame.tobytes() for frame in again) == sorted(frame.tobytes() for frame in first)
    with pytest.raises(AssertionError, match="corrupted anew"):
        frames_of(planned(kept, "continual", seed=1), kept)


def test_a_recording_has_labels_below_zero_where_answers_do_not_count(images, tmp_path):
    plan = planned(images, "garbage", frames=7)

    record_plan(plan, images, tmp_path, lambda line: None)

    recording = Recording(tmp_path)
    np.testing.assert_array_equal(recording.labels, plan.labels)
    np.testing.assert_array_equal(recording.frames(0, len(plan)), frames_of(plan, images))
    assert [(span.corruption, span.start, span.stop) for span in recording.spans] == [
        (span.corruption, span.start, span.stop) for span in plan.spans
    ]
