import numpy as np

from ecotta_rt.bundle import FrameSpec
from ecotta_rt.records import Frame
from ecotta_rt.runtime.batching import Batching, stacked


def frame(index, size=(2, 2)):
    return Frame(np.full((*size, 3), index, np.uint8), index, 0.0, f"frame-{index}")


def test_frames_wait_in_the_networks_size_until_their_batch_is_whole():
    batching = Batching(FrameSpec(3, 2, 2), 2)

    assert batching.add(frame(0, size=(50, 70))) is None
    assert not batching.is_whole
    assert batching.add(frame(1)) is None
    assert batching.is_whole

    batch = batching.take()
    assert [(one.index, one.pixels.shape) for one in batch] == [(0, (2, 2, 3)), (1, (2, 2, 3))]
    assert batching.take() == []
    batching.put_back(batch)
    assert batching.take() == batch


def test_what_is_no_picture_is_refused_and_does_not_wait():
    batching = Batching(FrameSpec(3, 2, 2), 1)

    refusal = batching.add(Frame(np.full((2, 2, 3), np.nan), 7, 0.0, "floats"))

    assert (refusal.index, refusal.name) == (7, "floats")
    assert "float64 pixels" in refusal.why
    assert batching.take() == []


def test_a_short_batch_is_repeated_in_turn():
    batch = [frame(0), frame(1)]

    assert stacked(batch, 2)[:, 0, 0, 0].tolist() == [0, 1]
    assert stacked(batch, 5)[:, 0, 0, 0].tolist() == [0, 1, 0, 1, 0]
