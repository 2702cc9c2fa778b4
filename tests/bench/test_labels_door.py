"""True labels leave the stream by one door, after the answer, and only to a step that has it."""

import numpy as np
import pytest

from ecotta_rt.bench import worker
from ecotta_rt.bench.recording import Recording, write_recording
from ecotta_rt.data.stream import Segment

LABELS = np.array([3, 1, 4, 1, 5, 2, 6], np.int64)


class _Step:
    """Answers zeros and keeps what it is told, in order."""

    def __init__(self, takes_labels):
        self.heard = []
        self.teach = (lambda labels: self.heard.append(labels.tolist())) if takes_labels else None

    def prepare(self, frames):
        return frames

    def __call__(self, frames):
        self.heard.append("answer")
        return np.zeros(len(frames), np.int64)

    def labels(self, answer):
        return answer

    def begin_corruption(self, corruption):
        return


@pytest.fixture
def recording(tmp_path):
    write_recording(tmp_path, [Segment("fog", np.zeros((7, 8, 8, 3), np.uint8), LABELS)])
    return Recording(tmp_path)


def test_labels_come_after_the_answer_to_their_frames(recording):
    step = _Step(takes_labels=True)
    worker._play(step, recording, 4, lambda message: None)

    assert step.heard == ["answer", [3, 1, 4, 1], "answer", [5, 2, 6]]


def test_frames_that_fill_up_the_last_batch_of_a_stream_have_no_label(recording):
    step = _Step(takes_labels=True)
    worker._play_stream(step, recording, 4, lambda message: None)

    assert step.heard == ["answer", [3, 1, 4, 1], "answer", [5, 2, 6, -1]]


def test_a_step_without_the_door_hears_no_label(recording):
    step = _Step(takes_labels=False)
    worker._play(step, recording, 4, lambda message: None)
    worker._play_stream(step, recording, 4, lambda message: None)

    assert step.heard == ["answer"] * 4
