"""Corrupt frames, or take them from a cache when they were corrupted before."""

import hashlib
import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ecotta_rt.data.corruptions import corrupt
from ecotta_rt.errors import InputFileError
from ecotta_rt.files.atomic import write_atomic
from ecotta_rt.files.npy import map_npy

__all__ = ["corrupted_frames"]

GENERATOR = 1
"""Raised by hand whenever a corruption's output changes, so that no cache serves the frames of an older one."""


def corrupted_frames(
    frames: NDArray[np.uint8], corruption: str, severity: int, seed: int, places: NDArray[np.int64], cache: Path | None
) -> NDArray[np.uint8]:
    """Corrupt frames; with a cache folder, at most once.

    Args:
        frames: uint8 `[N, H, W, 3]`.
        corruption: One of `CORRUPTIONS`.
        severity: 1 to 5.
        seed: Of all random choices, not negative.
        places: int `[N]`, of each frame in its set.
        cache: Folder, made when missing, or None. A file in it is named after a digest of all that decides its content.

    Returns:
        uint8 of the same shape.

    Raises:
        TransferError: The cache could not be written.
    """
    if cache is None:
        return corrupt(frames, corruption, severity=severity, seed=seed, indices=places)
    key = repr((GENERATOR, corruption, severity, seed, frames.shape)).encode()
    digest = hashlib.sha256(key + np.asarray(places, "<i8").tobytes() + np.ascontiguousarray(frames).tobytes())
    path = cache / f"{corruption}-{severity}-{digest.hexdigest()[:20]}.npy"
    if path.is_file():
        kept = _kept(path, frames.shape)
        if kept is not None:
            return kept
    made = corrupt(frames, corruption, severity=severity, seed=seed, indices=places)
    _keep(path, made)
    return made


def _kept(path: Path, shape: tuple[int, ...]) -> NDArray[np.uint8] | None:
    """The cached frames, or None for a damaged file, which is then written again."""
    try:
        kept = map_npy(path)
    except InputFileError:
        return None
    return np.asarray(kept) if kept.shape == shape and kept.dtype == np.uint8 else None


def _keep(path: Path, frames: NDArray[np.uint8]) -> None:
    content = io.BytesIO()
    np.save(content, frames, allow_pickle=False)
    write_atomic(path, content.getvalue())
