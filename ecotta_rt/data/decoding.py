"""Decode pictures once, into a file of frames that is mapped and not read: a set may be larger than memory."""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ecotta_rt.bundle import FrameSpec
from ecotta_rt.errors import BadFrames, InputFileError, TransferError, UsageError
from ecotta_rt.files.atomic import write_atomic
from ecotta_rt.files.kinds import open_regular
from ecotta_rt.runtime.preprocess import preprocess
from ecotta_rt.sources.picture import read_picture, require_pillow

__all__ = ["DecodeCallback", "Decoded", "Left", "decode_pictures", "remove_store"]

DecodeCallback = Callable[[int, int], None]
"""Called with how many pictures are done, and how many there are."""

_SAVED_EVERY_S = 5.0
_SPARE_BYTES = 256 << 20
"""What a disk has to have left after the frames are on it."""


@dataclass(frozen=True)
class Left:
    """A file that gave no frame, and why."""

    path: Path
    why: str


@dataclass(frozen=True, eq=False)
class Decoded:
    """The frames of pictures.

    Attributes:
        frames: uint8 `[N, height, width, channels]`, mapped from the store.
        places: int64 `[N]`, rising: which of the files each frame is of.
        left_out: The others.
    """

    frames: NDArray[np.uint8]
    places: NDArray[np.int64]
    left_out: tuple[Left, ...]


def decode_pictures(
    files: Sequence[Path], frame: FrameSpec, store: Path, report: DecodeCallback | None = None
) -> Decoded:
    """Make a frame of each picture, by the rule that the device keeps to.

    Args:
        files: Pictures; those that cannot be decoded are left out.
        frame: What the network takes.
        store: A file for the frames, and one with `.json` behind its name that says how far they are. Where both are
            there from a run over the same files that was interrupted, it is gone on with. Remove them with
            `remove_store` when the frames are no longer needed.
        report: Called with the number of files done and of all files.

    Raises:
        InputFileError: None of the files is a picture.
        TransferError: The frames have no room on the disk, or cannot be written.
        UsageError: There is a file at `store` that no run left there.
        Unavailable: Pillow is not installed.
    """
    require_pillow()
    shape = (len(files), frame.height, frame.width, frame.channels)
    identity = _identity(files, frame)
    done, left = _resume(store, shape, identity)
    if done == 0:
        _claim(store, shape, identity)
    frames = np.memmap(store, np.uint8, mode="r+", shape=shape)
    saved_s = time.monotonic()
    for place in range(done, len(files)):
        try:
            frames[place - len(left)] = preprocess(read_picture(files[place]), frame)
        except BadFrames as error:
            left[place] = str(error)
        if time.monotonic() - saved_s > _SAVED_EVERY_S:
            frames.flush()
            _save(store, identity, place + 1, left)
            saved_s = time.monotonic()
        if report is not None:
            report(place + 1, len(files))
    frames.flush()
    _save(store, identity, len(files), left)
    if len(left) == len(files):
        raise InputFileError(f"{files[0].parent}: none of {len(files)} files is a picture; {files[0].name}: {left[0]}")
    places = np.array([place for place in range(len(files)) if place not in left], np.int64)
    return Decoded(frames[: len(places)], places, tuple(Left(files[place], why) for place, why in left.items()))


def remove_store(store: Path) -> None:
    """Remove what `decode_pictures` keeps; a file that it did not make stays."""
    if _record(store).exists():
        store.unlink(missing_ok=True)
        _record(store).unlink()


def _record(store: Path) -> Path:
    return store.with_name(f"{store.name}.json")


def _identity(files: Sequence[Path], frame: FrameSpec) -> str:
    """Changes with the files, their sizes and times, and the frame."""
    sha = hashlib.sha256(repr(frame).encode())
    for path in files:
        try:
            status = path.stat()
            sha.update(f"{path}|{status.st_size}|{status.st_mtime_ns}\n".encode("utf-8", "surrogateescape"))
        except OSError:
            sha.update(f"{path}|unreadable\n".encode("utf-8", "surrogateescape"))
    return sha.hexdigest()


def _claim(store: Path, shape: tuple[int, ...], identity: str) -> None:
    """Make the file of frames, all of its bytes at once."""
    if store.exists() and not _record(store).exists():
        raise UsageError(f"{store} exists and holds no frames of ours; --out chooses another name")
    store.parent.mkdir(parents=True, exist_ok=True)
    size_bytes = int(np.prod(shape, dtype=object))
    store.unlink(missing_ok=True)
    _require_room(store, size_bytes)
    _save(store, identity, 0, {})
    try:
        with store.open("wb") as file:
            # A mapped file that finds the disk full later ends the process without a word.
            os.posix_fallocate(file.fileno(), 0, size_bytes)
    except OSError as error:
        remove_store(store)
        raise TransferError(f"{store} cannot be written: {error.strerror or error}") from error


def _require_room(store: Path, size_bytes: int) -> None:
    free_bytes = shutil.disk_usage(store.parent).free
    if size_bytes + _SPARE_BYTES > free_bytes:
        raise TransferError(
            f"the frames need {size_bytes / 2**20:,.0f} MiB in {store.parent}, where {free_bytes / 2**20:,.0f} MiB are "
            "free; use fewer of them (--frames), smaller ones (--size), or another folder (--out)"
        )


def _save(store: Path, identity: str, done: int, left: Mapping[int, str]) -> None:
    record = {"identity": identity, "done": done, "left": [[place, why] for place, why in left.items()]}
    write_atomic(_record(store), json.dumps(record).encode())


def _resume(store: Path, shape: tuple[int, ...], identity: str) -> tuple[int, dict[int, str]]:
    """How many files are done, and which of them were left out."""
    try:
        with open_regular(_record(store)) as file:
            record = json.load(file)
        if record["identity"] != identity or store.stat().st_size != int(np.prod(shape, dtype=object)):
            return 0, {}
        return int(record["done"]), {int(place): str(why) for place, why in record["left"]}
    except (OSError, ValueError, KeyError, TypeError):
        return 0, {}
