"""CIFAR as a labelled set: the clean images of the binary version, and the folders of corrupted ones."""

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ecotta_rt.data.corruptions import CORRUPTIONS
from ecotta_rt.errors import InputFileError
from ecotta_rt.files.cifar import (
    BINARIES,
    LABELS,
    SEVERITIES,
    CifarBinary,
    check_labels,
    map_binary,
    map_corruption,
    map_labels,
)

__all__ = ["CIFAR_10", "CIFAR_100", "CifarC", "Images", "binary_in", "class_names", "is_cifar_c", "read_binary"]

Images = tuple[NDArray[np.uint8], NDArray[np.int64]]  # frames [N, 32, 32, 3], labels [N]

# Names in the order of the labels.
CIFAR_10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

# fmt: off
CIFAR_100 = (
    "apple", "aquarium_fish", "baby", "bear", "beaver", "bed", "bee", "beetle", "bicycle", "bottle", "bowl", "boy",
    "bridge", "bus", "butterfly", "camel", "can", "castle", "caterpillar", "cattle", "chair", "chimpanzee", "clock",
    "cloud", "cockroach", "couch", "crab", "crocodile", "cup", "dinosaur", "dolphin", "elephant", "flatfish",
    "forest", "fox", "girl", "hamster", "house", "kangaroo", "keyboard", "lamp", "lawn_mower", "leopard", "lion",
    "lizard", "lobster", "man", "maple_tree", "motorcycle", "mountain", "mouse", "mushroom", "oak_tree", "orange",
    "orchid", "otter", "palm_tree", "pear", "pickup_truck", "pine_tree", "plain", "plate", "poppy", "porcupine",
    "possum", "rabbit", "raccoon", "ray", "road", "rocket", "rose", "sea", "seal", "shark", "shrew", "skunk",
    "skyscraper", "snail", "snake", "spider", "squirrel", "streetcar", "sunflower", "sweet_pepper", "table", "tank",
    "telephone", "television", "tiger", "tractor", "train", "trout", "tulip", "turtle", "wardrobe", "whale",
    "willow_tree", "wolf", "woman", "worm",
)
# fmt: on


def class_names(layout: CifarBinary) -> tuple[str, ...]:
    """Names by label."""
    return CIFAR_100 if layout.classes == 100 else CIFAR_10


def binary_in(folder: Path) -> CifarBinary | None:
    """The layout of which the folder holds a file, or None."""
    for layout in BINARIES:
        if any((folder / name).is_file() for name in (layout.test, *layout.train)):
            return layout
    return None


def read_binary(folder: Path, layout: CifarBinary, split: str) -> Images:
    """The images of a split, in memory.

    Args:
        folder: Where the .bin files are.
        layout: One of `BINARIES`.
        split: `train` or `test`. Of several training files those that are there are read.

    Raises:
        InputFileError: A file is missing, not a whole number of records, too long, or has a label out of range.
    """
    names = layout.train if split == "train" else (layout.test,)
    paths = [folder / name for name in names if (folder / name).exists()] or [folder / names[0]]
    parts = [map_binary(path, layout) for path in paths]
    for path, (_, labels) in zip(paths, parts, strict=True):
        check_labels(path, labels, layout.classes)
    frames, labels = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return np.ascontiguousarray(frames), labels.astype(np.int64)


def is_cifar_c(folder: Path) -> bool:
    """Whether the folder holds a file of CIFAR-10-C's layout."""
    return any((folder / f"{name}.npy").is_file() for name in CORRUPTIONS) or (folder / LABELS).is_file()


class CifarC:
    """A folder of corrupted images: its labels are read and checked, its frames when they are asked for.

    Args:
        folder: Where the .npy files are.

    Attributes:
        count: N, frames a severity.
        labels: int64 `[N]`, the same at every severity.
        classes: Names by label; 100 when the folder's name says so or a label is above 9.

    Raises:
        InputFileError: `labels.npy` is missing or not what it should be.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        labels = map_labels(folder)
        if len(labels) % SEVERITIES:
            raise InputFileError(
                f"{folder / LABELS}: {len(labels)} labels, expected [5 N]: one for each frame of 5 severities"
            )
        self.count = len(labels) // SEVERITIES
        self.classes = _classes(folder, labels)
        check_labels(folder / LABELS, labels, len(self.classes))
        self.labels: NDArray[np.int64] = np.asarray(labels[: self.count], np.int64)

    def read(self, corruption: str, severity: int) -> Images:
        """One corruption at one severity: frames uint8 `[N, 32, 32, 3]`, mapped from the file, and labels int64 `[N]`.

        Raises:
            InputFileError: The file is missing, truncated, or of another shape or dtype.
        """
        frames, labels = map_corruption(self._folder, corruption, severity)
        return frames, np.asarray(labels, np.int64)


def _classes(folder: Path, labels: NDArray[np.integer]) -> tuple[str, ...]:
    name = folder.resolve().name.lower()
    if re.search(r"cifar-?100\b", name):
        return CIFAR_100
    return CIFAR_10 if "10" in name or labels.max() < 10 else CIFAR_100
