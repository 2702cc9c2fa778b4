"""Frames that a bundle learns from: what a step costs must not be measured on frames that the gate refuses."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ecotta_rt.data.stream import open_stream
from ecotta_rt.runtime.engine import Runtime

__all__ = ["confident_batch"]

_FRAMES = 500  # of the embedded sample, mildly corrupted


def confident_batch(path: Path, batch: int) -> NDArray[np.uint8]:
    """Frames uint8 `[batch, H, W, 3]` from which a bundle with the embedded Fashion-MNIST network learns at once.

    Args:
        path: The bundle.
        batch: Frames a step.
    """
    runtime = Runtime.load(path, batch=batch)
    for frames in _candidates(batch):
        runtime.reset()
        if runtime(frames).adapted:
            return frames
    raise SystemExit(f"{path}: no frame of the sample passes the gate")


def _candidates(batch: int) -> Iterator[NDArray[np.uint8]]:
    (segment,) = open_stream(frames=_FRAMES, corruptions=("brightness",), severity=1).segments
    yield from (segment.frames[start : start + batch] for start in range(0, _FRAMES - batch + 1, batch))
