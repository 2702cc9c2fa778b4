"""The published layouts of CIFAR: images whose classes are known. Files are mapped, and pages read when they are used.

    labels.npy and NAME.npy ...   CIFAR-10-C, CIFAR-100-C: uint8 [5 N, 32, 32, 3], severity 1 first; labels [5 N]
    *.bin                         CIFAR-10, CIFAR-100: records of a label and the planes R, G, B of 32 x 32 bytes

The official sets of corrupted images have N = 10,000; any N is read. A record of CIFAR-100 has the coarse label (20
classes) before the fine one (100 classes).

Source:
    Krizhevsky 2009, https://www.cs.toronto.edu/~kriz/cifar.html; Hendrycks, Dietterich 2019,
    https://zenodo.org/records/2535967 and https://zenodo.org/records/3555552
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecotta_rt.errors import InputFileError, UsageError
from ecotta_rt.files.kinds import open_regular
from ecotta_rt.files.npy import map_npy

__all__ = [
    "BINARIES",
    "LABELS",
    "SEVERITIES",
    "CifarBinary",
    "check_labels",
    "corruptions_in",
    "map_binary",
    "map_corruption",
    "map_labels",
]

SEVERITIES = 5
LABELS = "labels.npy"

_SIDE = 32  # pixels
_IMAGE_BYTES = 3 * _SIDE * _SIDE
_MOST_RECORDS = 60_000  # the whole of either set

Images = tuple[NDArray[np.uint8], NDArray[Any]]  # [N, 32, 32, 3], and whole numbers [N]


@dataclass(frozen=True)
class CifarBinary:
    """One of the two layouts of records.

    Attributes:
        name: Id of the set.
        classes: How many.
        label_bytes: Of each record; the last one is the label we use.
        test: Name of the file with the test images.
        train: Names of the files with the training images.
    """

    name: str
    classes: int
    label_bytes: int
    test: str
    train: tuple[str, ...]


BINARIES = (
    CifarBinary("cifar-10", 10, 1, "test_batch.bin", tuple(f"data_batch_{i}.bin" for i in range(1, 6))),
    CifarBinary("cifar-100", 100, 2, "test.bin", ("train.bin",)),
)


def corruptions_in(folder: Path) -> list[str]:
    """Names of the corruptions that a folder holds, in alphabetical order."""
    return sorted(path.stem for path in folder.glob("*.npy") if path.name != LABELS)


def map_labels(folder: Path) -> NDArray[Any]:
    """The labels `[N]` of a folder of corrupted images.

    Raises:
        InputFileError: The file is missing, cannot be read, or holds something else.
    """
    labels = map_npy(folder / LABELS)
    if labels.dtype.kind not in "iu" or labels.ndim != 1:
        found = f"{labels.dtype} of shape {list(labels.shape)}"
        raise InputFileError(f"{folder / LABELS}: {found}, expected a whole number for each frame")
    return labels


def map_corruption(folder: Path, name: str, severity: int | None = None) -> Images:
    """One corruption, at one severity or at all of them.

    Args:
        folder: Where the .npy files are.
        name: Name of one, without its suffix.
        severity: 1 to 5, that fifth of the file; where None, the whole.

    Raises:
        UsageError: The severity is out of range.
        InputFileError: A file is missing, truncated, or of another shape or dtype.
    """
    if severity is not None and not 1 <= severity <= SEVERITIES:
        raise UsageError(f"severity {severity}: give a number from 1 to {SEVERITIES}")
    path = folder / f"{name}.npy"
    if Path(name).name != name or not path.is_file():
        raise InputFileError(f"{folder}: no file {name}.npy in it; there are: {', '.join(corruptions_in(folder))}")
    frames, labels = map_npy(path), map_labels(folder)
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[1:] != (_SIDE, _SIDE, 3):
        raise InputFileError(f"{path}: {frames.dtype} of shape {list(frames.shape)}, expected uint8 [N, 32, 32, 3]")
    if len(frames) != len(labels):
        raise InputFileError(f"{path}: {len(frames)} frames, but {folder / LABELS} has {len(labels)} labels")
    if severity is None:
        return frames, labels
    if len(frames) % SEVERITIES:
        raise InputFileError(f"{path}: {len(frames)} frames are not {SEVERITIES} severities of the same length")
    count = len(frames) // SEVERITIES
    part = slice((severity - 1) * count, severity * count)
    return frames[part], labels[part]


def map_binary(path: Path, layout: CifarBinary) -> Images:
    """The records of one file.

    Raises:
        InputFileError: It is missing, cannot be read, not a whole number of records, or too long.
    """
    record_bytes = layout.label_bytes + _IMAGE_BYTES
    try:
        with open_regular(path) as file:
            size_bytes = file.seek(0, 2)
        if size_bytes > _MOST_RECORDS * record_bytes:
            raise InputFileError(
                f"{path}: {size_bytes} bytes, more than the {_MOST_RECORDS} records of {record_bytes} bytes of the set"
            )
        if size_bytes == 0 or size_bytes % record_bytes:
            raise InputFileError(
                f"{path}: {size_bytes} bytes, not whole records of {record_bytes}, as {layout.name} has; truncated?"
            )
        records = np.memmap(path, np.uint8, mode="r").reshape(-1, record_bytes)
    except FileNotFoundError as error:
        raise InputFileError(f"{path}: no such file") from error
    except OSError as error:
        raise InputFileError(f"{path}: cannot be read ({error.strerror or error})") from error
    planes = records[:, layout.label_bytes :].reshape(-1, 3, _SIDE, _SIDE)
    return planes.transpose(0, 2, 3, 1), records[:, layout.label_bytes - 1]


def check_labels(origin: Path, labels: NDArray[Any], classes: int | None) -> None:
    """Refuse labels that no network of so many classes can give.

    Args:
        origin: Where they are from, for the message.
        labels: Whole numbers `[N]`.
        classes: Labels must be below it; where None, any that is not negative will do.

    Raises:
        InputFileError: One is out of range.
    """
    wrong = (labels < 0) | (labels >= (np.inf if classes is None else classes))
    if wrong.any():
        place = int(wrong.argmax())
        limit = "0 or more" if classes is None else f"0 to {classes - 1}"
        raise InputFileError(f"{origin}: label {labels[place]} at position {place}, expected {limit}")
