"""Folders in the layout of CIFAR-10-C and CIFAR-100-C: one .npy file a corruption, and `labels.npy`.

Each file holds uint8 `[5 N, 32, 32, 3]`, severity 1 first, and the labels repeat for every severity. The official sets
have N = 10,000; any N is read.

Source:
    Hendrycks, Dietterich 2019; https://zenodo.org/records/2535967 and https://zenodo.org/records/3555552
"""

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ecotta_rt.data import cifar_classes
from ecotta_rt.data.corruptions import CORRUPTIONS, SEVERITIES
from ecotta_rt.data.npy_file import open_npy
from ecotta_rt.errors import InputFileError

__all__ = ["CifarC", "is_cifar_c"]

FRAME_SHAPE = (32, 32, 3)


def is_cifar_c(folder: Path) -> bool:
    """Whether the folder holds a file of this layout."""
    return any((folder / f"{name}.npy").is_file() for name in (*CORRUPTIONS, "labels"))


class CifarC:
    """An opened folder: its labels are read and checked, its frames when they are asked for.

    Args:
        folder: Where the .npy files are.

    Attributes:
        labels: int64 `[5 N]`.
        count: N, frames a severity.
        classes: Names by label; 100 when the folder's name says so or a label is above 9.

    Raises:
        InputFileError: `labels.npy` is missing or not what it should be.
        TransferError: It could not be read.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        path = folder / "labels.npy"
        labels = open_npy(path)
        if labels.ndim != 1 or len(labels) % len(SEVERITIES):
            raise InputFileError(
                f"{path}: shape {labels.shape}, expected [5 N]: a label for each frame of 5 severities"
            )
        self.labels: NDArray[np.int64] = np.asarray(labels, np.int64)
        self.count = len(labels) // len(SEVERITIES)
        self.classes = self._classes()
        outside = (self.labels < 0) | (self.labels >= len(self.classes))
        if outside.any():
            at = int(outside.argmax())
            raise InputFileError(f"{path}: label {labels[at]} at position {at}, expected 0 to {len(self.classes) - 1}")

    def _classes(self) -> tuple[str, ...]:
        name = self._folder.resolve().name.lower()
        if re.search(r"cifar-?100\b", name):
            return cifar_classes.CIFAR_100
        if "10" in name or self.labels.max() < 10:
            return cifar_classes.CIFAR_10
        return cifar_classes.CIFAR_100

    def read(self, corruption: str, severity: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """One corruption at one severity: frames uint8 `[N, 32, 32, 3]`, mapped from the file, and labels int64 `[N]`.

        Raises:
            InputFileError: The file is missing, truncated, or of another shape or dtype.
            TransferError: It could not be read.
        """
        path = self._folder / f"{corruption}.npy"
        if not path.is_file():
            missing = [name for name in CORRUPTIONS if not (self._folder / f"{name}.npy").is_file()]
            raise InputFileError(
                f"{path}: no such file; this folder lacks {', '.join(missing)}: leave them out, or complete it"
            )
        frames = open_npy(path)
        if frames.dtype != np.uint8:
            raise InputFileError(f"{path}: dtype {frames.dtype}, expected uint8")
        if frames.ndim != 4 or frames.shape[1:] != FRAME_SHAPE:
            raise InputFileError(f"{path}: shape {frames.shape}, expected [5 N, 32, 32, 3]")
        if len(frames) != len(self.labels):
            raise InputFileError(
                f"{path}: {len(frames)} frames, but {self._folder / 'labels.npy'} has {len(self.labels)} labels"
            )
        part = slice((severity - 1) * self.count, severity * self.count)
        return frames[part], self.labels[part]
