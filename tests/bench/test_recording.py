import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ecotta_rt.bench.recording import Recording, Span, cut_batches, write_recording
from ecotta_rt.data.stream import Segment


def segments(*counts):
    draws = np.random.default_rng(0)
    return [
        Segment(f"corruption_{k}", draws.integers(0, 256, (n, 4, 4, 3), np.uint8), draws.integers(0, 10, n))
        for k, n in enumerate(counts)
    ]


def test_a_recording_plays_back_what_was_written(tmp_path):
    written = segments(5, 3)

    write_recording(tmp_path, written)
    recording = Recording(tmp_path)

    assert recording.spans == (Span("corruption_0", 0, 5), Span("corruption_1", 5, 8))
    np.testing.assert_array_equal(recording.frames(0, 8), np.concatenate([s.frames for s in written]))
    np.testing.assert_array_equal(recording.frames(4, 6), [written[0].frames[4], written[1].frames[0]])
    np.testing.assert_array_equal(recording.labels, np.concatenate([s.labels for s in written]))


@given(start=st.integers(0, 100), frames=st.integers(1, 300), batch=st.integers(1, 70))
def test_batches_use_every_frame_once_in_order(start, frames, batch):
    batches = list(cut_batches(Span("fog", start, start + frames), batch))

    assert [place for b in batches for place in range(b.start, b.stop)] == list(range(start, start + frames))
    assert all(b.corruption == "fog" for b in batches)
    assert all(b.stop - b.start <= batch + 1 for b in batches)


@given(frames=st.integers(2, 300), batch=st.integers(2, 70))
def test_no_frame_is_left_without_a_batch(frames, batch):
    assert all(b.stop - b.start >= 2 for b in cut_batches(Span("fog", 0, frames), batch))


def test_one_frame_at_a_time_stays_one_frame_at_a_time():
    assert [b.stop - b.start for b in cut_batches(Span("fog", 0, 4), 1)] == [1, 1, 1, 1]
