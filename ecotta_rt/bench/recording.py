"""A stream on disk: written once by the parent, played by each method's process.

The frames are read batch by batch, as a camera would give them. Held in memory they would be counted as the method's
(a mapped file page by page, as it is touched), and a long stream would not fit a device on which each step does.
"""

import base64
import json
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:  # the measured process plays streams and need not carry what makes them
    from ecotta_rt.data.stream import Segment

__all__ = [
    "Recording",
    "Span",
    "cut_batches",
    "heard_answers",
    "told_answers",
    "write_frames",
    "write_recording",
    "written",
]

_INDEX, _FRAMES, _LABELS = "index.json", "frames.bin", "labels.npy"


class Span(NamedTuple):
    """Frames `start` to `stop - 1` of a recording, all of one corruption."""

    corruption: str
    start: int
    stop: int

    @property
    def frames(self) -> int:
        """How many."""
        return self.stop - self.start


def write_recording(folder: Path, segments: "Sequence[Segment]") -> None:
    """Write segments into an existing folder, in the order they are played. All frames have one shape."""
    write_frames(
        folder,
        np.concatenate([segment.frames for segment in segments]),
        np.concatenate([segment.labels for segment in segments]),
        [(segment.corruption, len(segment.frames)) for segment in segments],
    )


class Recording:
    """What `write_recording` wrote.

    Args:
        folder: Where to.

    Attributes:
        spans: One a corruption, in the order they are played.
        labels: int64 `[N]`, of all frames.
    """

    def __init__(self, folder: str | Path) -> None:
        folder = Path(folder)
        index = json.loads((folder / _INDEX).read_text(encoding="utf-8"))
        self._frame_shape = tuple(index["frame_shape"])
        self._path = folder / _FRAMES
        self.labels: NDArray[np.int64] = np.load(folder / _LABELS)
        self.spans = tuple(_spans(index["segments"]))

    def frames(self, start: int, stop: int) -> NDArray[np.uint8]:
        """Frames `start` to `stop - 1`, uint8 `[n, H, W, 3]`, read from the file now."""
        frame_bytes = int(np.prod(self._frame_shape))
        flat = np.fromfile(self._path, np.uint8, (stop - start) * frame_bytes, offset=start * frame_bytes)
        return flat.reshape(-1, *self._frame_shape)


def _spans(segments: Sequence[tuple[str, int]]) -> Iterator[Span]:
    start = 0
    for corruption, frames in segments:
        yield Span(corruption, start, start + frames)
        start += frames


def written(folder: Path, segments: "Sequence[Segment]") -> str:
    """Make a folder, write segments into it, and name it."""
    folder.mkdir()
    write_recording(folder, segments)
    return str(folder)


def write_frames(
    folder: Path, frames: NDArray[np.uint8], labels: NDArray[np.int64], spans: Sequence[tuple[str, int]]
) -> None:
    """Write frames uint8 `[N, H, W, 3]` into an existing folder; a span is a corruption's name and its frames.

    Labels are int64 `[N]`, -1 for a frame whose answer does not count.
    """
    np.ascontiguousarray(frames).tofile(folder / _FRAMES)
    np.save(folder / _LABELS, labels)
    index = {"frame_shape": frames.shape[1:], "segments": spans}
    (folder / _INDEX).write_text(json.dumps(index), encoding="utf-8")


def cut_batches(span: Span, batch: int) -> Iterator[Span]:
    """Cut a span into batches.

    Every frame is used once, in order. The last batch may be smaller, but where batches are wanted no frame is left
    alone: a single frame has no batch statistics, so it joins the batch before it.

    Args:
        span: Frames of one corruption.
        batch: Frames a step, at least 1.

    >>> [(b.start, b.stop) for b in cut_batches(Span("fog", 0, 129), 64)]
    [(0, 64), (64, 129)]
    """
    start = span.start
    while start < span.stop:
        stop = min(start + batch, span.stop)
        if batch > 1 and span.stop - stop == 1:
            stop = span.stop
        yield Span(span.corruption, start, stop)
        start = stop


def told_answers(labels: NDArray[np.int16]) -> str:
    """The label of each frame, int16 `[N]`, as text."""
    return base64.b64encode(zlib.compress(labels.astype("<i2").tobytes())).decode("ascii")


def heard_answers(text: str) -> NDArray[np.int16]:
    """What `told_answers` was told."""
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), "<i2").astype(np.int16)
