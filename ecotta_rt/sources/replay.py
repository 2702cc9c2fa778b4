"""Play images whose classes are known, so that a run can say how often it was wrong.

Two layouts of a folder:

    labels.npy and NAME.npy ...   CIFAR-10-C: uint8 [5 N, 32, 32, 3], severity 1 first; labels [5 N]
    test_batch.bin                CIFAR-10, binary version: records of a label and the planes R, G, B of 32 x 32 bytes

Source:
    Hendrycks, Dietterich 2019, https://zenodo.org/records/2535967; https://www.cs.toronto.edu/~kriz/cifar.html
"""

from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ecotta_rt.errors import InputFileError, UsageError
from ecotta_rt.files.npy import map_npy
from ecotta_rt.machine.clock import Clock, SystemClock
from ecotta_rt.records import Frame
from ecotta_rt.sources.source import Item

__all__ = ["SEVERITIES", "CifarReplay"]

SEVERITIES = 5

_SIDE = 32
_RECORD_BYTES = 1 + 3 * _SIDE * _SIDE
_BINARY = "test_batch.bin"
_LABELS = "labels.npy"


@dataclass(frozen=True, eq=False)
class _Part:
    name: str
    frames: NDArray[np.uint8]  # [N, 32, 32, 3], mapped
    labels: NDArray[np.integer]  # [N]


class CifarReplay:
    """Labelled frames from a folder, one after the other.

    Args:
        folder: In one of the two layouts.
        corruption: Name of a .npy file without its suffix; where None, all of them in alphabetical order.
        severity: 1 to 5, that fifth of each file; where None, the whole file.
        classes: Labels must be below it; where None, any are taken.
        clock: Dates the frames.

    Raises:
        InputFileError: A file is missing, truncated, of another shape or dtype, or has labels out of range.
        UsageError: A severity out of range, or a corruption asked of clean images.
    """

    dropped = 0

    def __init__(
        self,
        folder: str | Path,
        corruption: str | None = None,
        severity: int | None = None,
        *,
        classes: int | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._clock = clock or SystemClock()
        self._closed = False
        if severity is not None and not 1 <= severity <= SEVERITIES:
            raise UsageError(f"severity {severity}: give a number from 1 to {SEVERITIES}")
        self._parts = _open(Path(folder), corruption, severity)
        for part in self._parts:
            _check_labels(Path(folder), part.labels, classes)

    def __iter__(self) -> Generator[Item, None, None]:
        index = 0
        for part in self._parts:
            for position, (frame, label) in enumerate(zip(part.frames, part.labels, strict=True)):
                if self._closed:
                    return
                yield Frame(np.array(frame), index, self._clock.now_s(), f"{part.name}[{position}]", int(label))
                index += 1

    def close(self) -> None:
        self._closed = True


def _open(folder: Path, corruption: str | None, severity: int | None) -> list[_Part]:
    if (folder / _LABELS).is_file():
        names = [corruption] if corruption else _corruptions(folder)
        if not names:
            raise InputFileError(f"{folder}: {_LABELS} and no frames; expected files such as fog.npy beside it")
        return [_corrupted(folder, name, severity) for name in names]
    if (folder / _BINARY).is_file():
        if corruption is not None:
            raise UsageError(f"{folder} holds the clean images of {_BINARY}, not {corruption!r}; leave it out")
        return [_binary(folder / _BINARY)]
    raise InputFileError(f"{folder}: neither {_LABELS} (CIFAR-10-C) nor {_BINARY} (CIFAR-10, binary) is in it")


def _corruptions(folder: Path) -> list[str]:
    return sorted(path.stem for path in folder.glob("*.npy") if path.name != _LABELS)


def _corrupted(folder: Path, name: str, severity: int | None) -> _Part:
    path = folder / f"{name}.npy"
    if Path(name).name != name or not path.is_file():
        raise InputFileError(f"{folder}: no file {name}.npy in it; there are: {', '.join(_corruptions(folder))}")
    frames, labels = map_npy(path), map_npy(folder / _LABELS)
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[1:] != (_SIDE, _SIDE, 3):
        raise InputFileError(f"{path}: {frames.dtype} of shape {list(frames.shape)}, expected uint8 [N, 32, 32, 3]")
    if labels.dtype.kind not in "iu" or labels.shape != frames.shape[:1]:
        found = f"{labels.dtype} of shape {list(labels.shape)}"
        raise InputFileError(f"{folder / _LABELS}: {found}, expected a whole number for each of {len(frames)} frames")
    if severity is None:
        return _Part(name, frames, labels)
    if len(frames) % SEVERITIES:
        raise InputFileError(f"{path}: {len(frames)} frames are not {SEVERITIES} severities of the same length")
    count = len(frames) // SEVERITIES
    chosen = slice((severity - 1) * count, severity * count)
    return _Part(f"{name}-{severity}", frames[chosen], labels[chosen])


def _binary(path: Path) -> _Part:
    try:
        size_bytes = path.stat().st_size
        if size_bytes == 0 or size_bytes % _RECORD_BYTES:
            raise InputFileError(f"{path}: {size_bytes} bytes, expected whole records of {_RECORD_BYTES}; truncated?")
        records = np.memmap(path, np.uint8, mode="r").reshape(-1, _RECORD_BYTES)
    except OSError as error:
        raise InputFileError(f"{path}: cannot be read ({error.strerror or error})") from error
    planes = records[:, 1:].reshape(-1, 3, _SIDE, _SIDE)
    return _Part(path.stem, planes.transpose(0, 2, 3, 1), records[:, 0])


def _check_labels(folder: Path, labels: NDArray[np.integer], classes: int | None) -> None:
    lowest, highest = int(labels.min()), int(labels.max())
    if lowest < 0 or (classes is not None and highest >= classes):
        wrong = lowest if lowest < 0 else highest
        limit = "0 or more" if classes is None else f"0 to {classes - 1}, the classes of the network"
        raise InputFileError(f"{folder}: holds the label {wrong}, expected {limit}")
