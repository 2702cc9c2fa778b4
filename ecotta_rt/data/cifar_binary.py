"""The official binary version of CIFAR-10 and CIFAR-100.

CIFAR-10: files of records of 3,073 bytes, a label and the planes R, G, B of 32x32 bytes. CIFAR-100: records of 3,074
bytes, with the coarse label (20 classes) before the fine one (100 classes). Both hold any number of records.

Source:
    Krizhevsky 2009, Learning Multiple Layers of Features from Tiny Images; https://www.cs.toronto.edu/~kriz/cifar.html
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ecotta_rt.data import cifar_classes
from ecotta_rt.errors import InputFileError, TransferError
from ecotta_rt.files.kinds import open_regular

__all__ = ["CIFAR_BINARIES", "CifarBinary", "cifar_binary_at", "read_cifar_binary"]

SIDE = 32  # pixels
IMAGE_BYTES = 3 * SIDE * SIDE
MOST_RECORDS = 60_000  # the whole of either set


@dataclass(frozen=True)
class CifarBinary:
    """One of the two layouts.

    Attributes:
        name: Id of the set.
        classes: Their names, by label.
        label_bytes: Of each record; the last one is the label we use.
        test: Name of the file with the test images.
        train: Names of the files with the training images.
    """

    name: str
    classes: tuple[str, ...]
    label_bytes: int
    test: str
    train: tuple[str, ...]


CIFAR_BINARIES = (
    CifarBinary(
        "cifar-10", cifar_classes.CIFAR_10, 1, "test_batch.bin", tuple(f"data_batch_{i}.bin" for i in range(1, 6))
    ),
    CifarBinary("cifar-100", cifar_classes.CIFAR_100, 2, "test.bin", ("train.bin",)),
)


def cifar_binary_at(folder: Path) -> CifarBinary | None:
    """The layout of which the folder holds a file, or None."""
    for layout in CIFAR_BINARIES:
        if any((folder / name).is_file() for name in (layout.test, *layout.train)):
            return layout
    return None


def read_cifar_binary(folder: Path, layout: CifarBinary, split: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Read the images of a split.

    Args:
        folder: Where the .bin files are.
        layout: One of `CIFAR_BINARIES`.
        split: `train` or `test`. Of several training files those that are there are read.

    Returns:
        Frames uint8 `[N, 32, 32, 3]` and labels int64 `[N]`.

    Raises:
        InputFileError: A file is missing, not a whole number of records, too long, or has a label out of range.
        TransferError: A file could not be read.
    """
    names = layout.train if split == "train" else (layout.test,)
    names = tuple(name for name in names if (folder / name).is_file()) or names
    records = [_read_records(folder / name, layout) for name in names]
    together = np.concatenate(records) if len(records) > 1 else records[0]
    planes = together[:, layout.label_bytes :].reshape(-1, 3, SIDE, SIDE)
    return np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), together[:, layout.label_bytes - 1].astype(np.int64)


def _read_records(path: Path, layout: CifarBinary) -> NDArray[np.uint8]:
    record_bytes = layout.label_bytes + IMAGE_BYTES
    try:
        size = path.stat().st_size
        if size > MOST_RECORDS * record_bytes:
            raise InputFileError(
                f"{path}: {size} bytes, more than the {MOST_RECORDS} records of {record_bytes} bytes of the set"
            )
        with open_regular(path) as file:
            content = np.fromfile(file, np.uint8)
    except FileNotFoundError as error:
        raise InputFileError(
            f"{path}: no such file; {path.parent} has others of {layout.name}, but not this one"
        ) from error
    except OSError as error:
        raise TransferError(f"{path}: {error.strerror or error}") from error
    if len(content) == 0 or len(content) % record_bytes:
        raise InputFileError(
            f"{path}: {len(content)} bytes, not a whole number of {layout.name} records of {record_bytes} bytes;"
            f" it may be truncated"
        )
    records = content.reshape(-1, record_bytes)
    labels = records[:, layout.label_bytes - 1]
    if labels.max() >= len(layout.classes):
        record = int(labels.argmax())
        raise InputFileError(
            f"{path}: label {labels[record]} in record {record}, expected 0 to {len(layout.classes) - 1}"
        )
    return records
