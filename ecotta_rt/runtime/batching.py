"""Pictures become frames of the network's size, and frames become whole batches."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ecotta_rt.bundle import FrameSpec
from ecotta_rt.errors import BadFrames
from ecotta_rt.events import Refusal
from ecotta_rt.records import Frame
from ecotta_rt.runtime.preprocess import preprocess

__all__ = ["Batching", "stacked"]


class Batching:
    """Frames that wait for the rest of their batch.

    They are held in the network's size: those of a camera would be a hundred times as large.

    Args:
        frame: What the network takes.
        size: Frames of a batch.
    """

    def __init__(self, frame: FrameSpec, size: int) -> None:
        self._frame = frame
        self._size = size
        self._waiting: list[Frame] = []

    def add(self, frame: Frame) -> Refusal | None:
        """Let a frame of any size wait; returns what is wrong where it is no picture."""
        try:
            self._waiting.append(replace(frame, pixels=preprocess(frame.pixels, self._frame)))
        except BadFrames as error:
            return Refusal(frame.index, frame.name, str(error))
        return None

    @property
    def is_whole(self) -> bool:
        return len(self._waiting) == self._size

    def take(self) -> list[Frame]:
        """All that wait; nothing waits after that."""
        batch, self._waiting = self._waiting, []
        return batch

    def put_back(self, batch: list[Frame]) -> None:
        """Let a batch wait that was taken and could not be answered."""
        self._waiting = batch


def stacked(batch: Sequence[Frame], size: int) -> NDArray[np.uint8]:
    """The pixels of a batch as one array, uint8 `[size, H, W, C]`.

    A short batch is repeated in turn, so that statistics over the array are those of its frames.
    """
    frames = np.stack([frame.pixels for frame in batch])
    return frames if len(batch) == size else frames[np.arange(size) % len(batch)]
