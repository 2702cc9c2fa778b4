"""Play a recorded stream to a method: count what it gets wrong, and time it."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ecotta_rt.bench.child_lines import Tell
from ecotta_rt.bench.recording import Recording, Span, cut_batches

__all__ = ["Played", "play"]

FramesT = TypeVar("FramesT")


@dataclass(frozen=True)
class Played:
    """What came of the stream.

    Attributes:
        wrong: Corruption -> wrong predictions.
        frames: Corruption -> frames.
        ms_per_frame: Wall time of the adapting loop a frame; the first batch is a warm-up and not counted.
    """

    wrong: Mapping[str, int]
    frames: Mapping[str, int]
    ms_per_frame: float

    def shares(self) -> dict[str, Any]:
        """The fields of a row that follow from the counts."""
        frames = sum(self.frames.values())
        return {
            "frames": frames,
            "error_percent": 100 * sum(self.wrong.values()) / frames,
            "errors": {corruption: 100 * wrong / self.frames[corruption] for corruption, wrong in self.wrong.items()},
        }


def play(
    recording: Recording,
    batch: int,
    *,
    read: Callable[[Span], FramesT],
    answer: Callable[[FramesT], NDArray[np.int64]],
    tell: Tell,
    begin: Callable[[str], None] = lambda corruption: None,
) -> Played:
    """Play every frame once, in order.

    Args:
        recording: The stream.
        batch: Frames a step.
        read: Gets frames ready for the method; not timed.
        answer: The step: from frames to a label for each; timed.
        tell: Gets `{"frames": n, "wrong": k}` after each batch.
        begin: Hears the name of each corruption before its first batch.
    """
    wrong: dict[str, int] = {}
    times: list[tuple[float, int]] = []  # seconds, frames
    for span in recording.spans:
        begin(span.corruption)
        wrong[span.corruption] = 0
        for piece in cut_batches(span, batch):
            frames = read(piece)
            start = time.perf_counter()
            labels = answer(frames)
            times.append((time.perf_counter() - start, len(labels)))
            wrong[span.corruption] += int((labels != recording.labels[piece.start : piece.stop]).sum())
            tell({"frames": piece.stop, "wrong": sum(wrong.values())})
    counted = times[1:] or times  # the first batch warms the caches
    ms_per_frame = 1e3 * sum(seconds for seconds, _ in counted) / sum(frames for _, frames in counted)
    return Played(wrong, {span.corruption: span.stop - span.start for span in recording.spans}, ms_per_frame)
