"""Corrupt frames, or take them from a cache when they were corrupted before.

The cache has a file for each corruption and severity of an image set, with a place for every image; most are holes
until somebody asks for them. So streams that show the same images in other orders share them.
"""

import hashlib
import os
import zlib
from pathlib import Path

import numpy as np
from numpy.lib.format import header_data_from_array_1_0, write_array_header_1_0
from numpy.typing import NDArray

from ecotta_rt.data.corruptions import corrupt
from ecotta_rt.errors import InputFileError, TransferError
from ecotta_rt.files.atomic import open_atomic
from ecotta_rt.files.npy import map_npy

__all__ = ["corrupted_frames"]

GENERATOR = 1
"""Raised by hand whenever a corruption's output changes, so that no cache serves the frames of an older one."""


def corrupted_frames(
    images: NDArray[np.uint8], corruption: str, severity: int, seed: int, places: NDArray[np.int64], cache: Path | None
) -> NDArray[np.uint8]:
    """Corrupt some images of a set; with a cache folder, each at most once.

    Processes may share the folder: what they write into a file is the same.

    Args:
        images: uint8 `[M, H, W, 3]`, the whole set.
        corruption: One of `CORRUPTIONS`.
        severity: 1 to 5.
        seed: Of all random choices, not negative.
        places: int `[N]`, which images; one may be there several times.
        cache: Folder, made when missing, or None. A file in it is named after a digest of all that decides its content.

    Returns:
        uint8 `[N, H, W, 3]`.

    Raises:
        TransferError: The cache could not be written.
    """
    if cache is None:
        return corrupt(images[places], corruption, severity=severity, seed=seed, indices=places)
    key = repr((GENERATOR, corruption, severity, seed, images.shape)).encode()
    digest = hashlib.sha256(key + np.ascontiguousarray(images).tobytes()).hexdigest()[:20]
    path = cache / f"{corruption}-{severity}-{digest}.npy"
    wanted = np.unique(places)
    kept = _opened(path, images)
    missing = np.array([place for place in wanted if not _is_whole(kept[place])], np.int64)
    if len(missing):
        made = corrupt(images[missing], corruption, severity=severity, seed=seed, indices=missing)
        _fill(path, kept, missing, made)
    return np.asarray(kept["pixels"][places])


def _opened(path: Path, images: NDArray[np.uint8]) -> np.memmap:
    """The file's records, of which any may be holes; a file that is damaged is begun anew."""
    kind = np.dtype([("pixels", np.uint8, images.shape[1:]), ("check", "<u4")])
    for _ in range(2):
        try:
            kept = map_npy(path)
        except InputFileError:
            kept = None
        if isinstance(kept, np.memmap) and kept.shape == images.shape[:1] and kept.dtype == kind:
            return kept
        empty = np.broadcast_to(np.zeros((), kind), images.shape[:1])
        with open_atomic(path) as file:
            write_array_header_1_0(file, header_data_from_array_1_0(empty) | {"fortran_order": False})
            file.truncate(file.tell() + len(images) * kind.itemsize)
    raise TransferError(f"{path} cannot be read after it was written; name another folder with ECOTTA_CACHE")


def _check(pixels: bytes) -> int:
    return zlib.crc32(pixels) or 1  # a hole has 0


def _is_whole(record: np.void) -> bool:
    return bool(record["check"] == _check(record["pixels"].tobytes()))


def _fill(path: Path, kept: np.memmap, places: NDArray[np.int64], frames: NDArray[np.uint8]) -> None:
    # Not through the map: there a full disk would be the end of the process.
    try:
        with path.open("r+b") as file:
            for place, frame in zip(places, frames, strict=True):
                pixels = frame.tobytes()
                record = pixels + _check(pixels).to_bytes(4, "little")
                os.pwrite(file.fileno(), record, kept.offset + int(place) * kept.itemsize)
    except OSError as error:
        raise TransferError(f"{path} cannot be written: {error.strerror or error}. Check its space") from error
