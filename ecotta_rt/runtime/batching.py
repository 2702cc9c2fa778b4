"""Pictures become frames of the network's size, and frames become whole batches."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ecotta_rt.bundle import FrameSpec
from ecotta_rt.errors import BadFrames
from ecotta_rt.events import Refusal
from ecotta_rt.records import Frame
from ecotta_rt.runtime.preprocess import preprocess
from ecotta_rt.sources.source import MAX_PIXELS

__all__ = ["Batching", "stacked"]

_LONGEST_SIDE = 1 << 16


class Batching:
    """Frames that wait for the rest of their batch.

    They are held in the network's size: those of a camera would be a hundred times as large.

    Args:
        frame: What the network takes.
        size: Frames of a batch.

    Attributes:
        frame: May be exchanged between two frames.
    """

    def __init__(self, frame: FrameSpec, size: int) -> None:
        self.frame = frame
        self._size = size
        self._waiting: list[Frame] = []

    def add(self, frame: Frame) -> Refusal | None:
        """Let a frame of any size wait; returns what is wrong where it is no picture, or a huge one."""
        try:
            _require_bounded(frame.pixels)
            self._waiting.append(replace(frame, pixels=preprocess(frame.pixels, self.frame)))
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


def _require_bounded(pixels: NDArray[np.uint8]) -> None:
    """A view of one pixel may claim to be a thousand million, and the tables to resize a row are as long as the row."""
    sides = getattr(pixels, "shape", ())[:2]
    if math.prod(sides) > MAX_PIXELS or max(sides, default=0) > _LONGEST_SIDE:
        raise BadFrames(f"shape {list(pixels.shape)}: expected up to {MAX_PIXELS} pixels, {_LONGEST_SIDE} a side")


def stacked(batch: Sequence[Frame], size: int) -> NDArray[np.uint8]:
    """The pixels of a batch as one array, uint8 `[size, H, W, C]`.

    A short batch is repeated in turn, so that statistics over the array are those of its frames.
    """
    frames = np.stack([frame.pixels for frame in batch])
    return frames if len(batch) == size else frames[np.arange(size) % len(batch)]
