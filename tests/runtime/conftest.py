"""Doubles for the network."""

import numpy as np
import pytest

from ecotta_rt.bundle import FrameSpec
from ecotta_rt.records import Prediction
from ecotta_rt.runtime import frame_check
from ecotta_rt.runtime.level import Level
from ecotta_rt.state import AdaptState

CLASSES = ("dark", "bright")


class FakeEngine:
    """Says "bright" of frames whose mean is above 127; the parameter `w` counts the batches learned from.

    `log` has every call in order: the levels set, and what was learned from, answered or held. Levels in `closed`
    cannot be set: there is no memory for their graphs.
    """

    class_names = CLASSES
    transient_bytes = 0

    def __init__(self, batch=1, frame_size=(2, 2)):
        self.batch = batch
        self.frame_size = frame_size
        self.frame = FrameSpec(3, *frame_size)
        self.learned, self.predicted, self.saved = [], [], []
        self.digest = "ab" * 32
        self.fail_with = None
        self.log, self.closed = [], ()

    @property
    def state(self):
        count = np.array([len(self.learned)], np.float32)
        return AdaptState({"w": count}, {"w": 0 * count}, {}, self.digest)

    def restore(self, state):
        self.restored = state

    def save_state(self, path):
        if self.fail_with is not None:
            raise self.fail_with
        self.saved.append(path)
        self.state.save(path)

    def __call__(self, frames):
        answer = self._answer(frames, adapted=True)
        self.learned.append(frames)
        self.log.append("learn")
        return answer

    def interrupt(self):
        self.log.append("interrupt")

    def set_level(self, level: Level):
        self.log.append(str(level))
        if str(level) in self.closed:
            raise MemoryError(str(level))

    def predict(self, frames, hold_statistics=False):
        self.predicted.append(frames)
        self.log.append("held" if hold_statistics else "answer")
        return self._answer(frames, adapted=False)

    def _answer(self, frames, adapted):
        assert frames.dtype == np.uint8
        assert frames.shape == (self.batch, *self.frame_size, 3)
        bright = (frames.mean(axis=(1, 2, 3)) / 255).astype(np.float32)
        probabilities = np.stack([1 - bright, bright], axis=1)
        entropy_nats = -(probabilities * np.log(np.maximum(probabilities, 1e-9))).sum(axis=1)
        labels = probabilities.argmax(axis=1)
        kept = np.ones(len(frames), bool)
        why = "adapted" if adapted else "off"
        return Prediction(labels, probabilities, entropy_nats, kept, adapted, why)


@pytest.fixture
def make_engine():
    """The class `FakeEngine`."""
    return FakeEngine


@pytest.fixture
def beyond_range(monkeypatch):
    """Floats outside [0, 1] are let in, which shows what becomes of a step that overflows for any reason."""
    monkeypatch.setattr(frame_check, "_require_unit_range", lambda frames: None)
