"""What a stream can be made of: find out what `data` is, and read frames of it by place.

| data | is | its streams |
| --- | --- | --- |
| `fashion-mnist-c` | the embedded sample | its test images, corrupted here |
| folder of idx files | Fashion-MNIST, official files | its test images, corrupted here |
| folder of .bin files | CIFAR-10 or CIFAR-100, official binary version | its test images, corrupted here |
| folder of .npy files | CIFAR-10-C or CIFAR-100-C | read as they are |
"""

import os
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ecotta_rt.data import fashion_mnist
from ecotta_rt.data.cifar import CifarC, Images, binary_in, class_names, is_cifar_c, read_binary
from ecotta_rt.data.corrupted import corrupted_frames
from ecotta_rt.errors import InputFileError, Unavailable, UsageError
from ecotta_rt.files.cifar import BINARIES, CifarBinary

__all__ = ["EMBEDDED", "ImageSet", "assets_folder", "find_image_set", "is_published"]

VARIABLE = "ECOTTA_ASSETS"
EMBEDDED = "fashion-mnist-c"
SAMPLE = Path("data") / "fashion-mnist-sample"  # inside the assets folder
SUBFOLDERS = ("cifar-10-batches-bin", "cifar-100-binary", "CIFAR-10-C", "CIFAR-100-C")  # as the archives unpack


class ImageSet(Protocol):
    """Test images under every corruption, and the clean training images that belong to them."""

    @property
    def name(self) -> str:
        """Name of its streams."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names by label."""

    @property
    def labels(self) -> NDArray[np.int64]:
        """Of all test images, int64 `[count]`."""

    @property
    def count(self) -> int:
        """Number of test images."""

    def read(self, corruption: str, severity: int, places: NDArray[np.int64], seed: int) -> Images:
        """The test images at `places` under a corruption."""

    def clean(self, places: NDArray[np.int64]) -> NDArray[np.uint8]:
        """The test images at `places` as they are, uint8 `[n, 32, 32, 3]`."""

    def training(self) -> Images:
        """All training images, clean."""


@dataclass(frozen=True, eq=False)
class _CorruptedHere:
    """Clean test images that our own generator corrupts."""

    name: str
    classes: tuple[str, ...]
    folder: Path
    layout: CifarBinary | None  # None: Fashion-MNIST
    cache: Path | None

    @cached_property
    def _test(self) -> Images:
        """Read when first asked for: training alone needs none."""
        return _read_clean(self.folder, self.layout, "test")

    @property
    def labels(self) -> NDArray[np.int64]:
        return self._test[1]

    @property
    def count(self) -> int:
        return len(self.labels)

    def read(self, corruption: str, severity: int, places: NDArray[np.int64], seed: int) -> Images:
        frames, labels = self._test
        return corrupted_frames(frames, corruption, severity, seed, places, self.cache), labels[places]

    def clean(self, places: NDArray[np.int64]) -> NDArray[np.uint8]:
        return self._test[0][places]

    def training(self) -> Images:
        return _read_clean(self.folder, self.layout, "train")


@dataclass(frozen=True, eq=False)
class _Published:
    """A folder of images that were corrupted by others."""

    name: str
    files: CifarC
    folder: Path

    @property
    def classes(self) -> tuple[str, ...]:
        return self.files.classes

    @property
    def labels(self) -> NDArray[np.int64]:
        return self.files.labels

    @property
    def count(self) -> int:
        return self.files.count

    def read(self, corruption: str, severity: int, places: NDArray[np.int64], seed: int) -> Images:
        frames, labels = self.files.read(corruption, severity)
        return frames[places], labels[places]

    def clean(self, places: NDArray[np.int64]) -> NDArray[np.uint8]:
        frames, labels = self._beside("test")
        # The corrupted ones are the first of the test images, in their order.
        if len(labels) < self.count or (labels[: self.count] != self.labels).any():
            raise InputFileError(f"{self.folder}: the test images beside it are not those that were corrupted")
        return frames[places]

    def training(self) -> Images:
        return self._beside("train")

    def _beside(self, split: str) -> Images:
        layout = BINARIES[len(self.classes) == 100]
        name = SUBFOLDERS[len(self.classes) == 100]
        beside = self.folder.resolve().parent / name
        if binary_in(beside) is not layout:
            images = "training" if split == "train" else "clean"
            raise UsageError(
                f"{self.folder} holds no {images} images: put {layout.name}'s binary version beside it, as {beside}"
            )
        return _read_clean(beside, layout, split)


def assets_folder() -> Path:
    """The folder that holds `networks/` and `data/`.

    It is `$ECOTTA_ASSETS`; else `benchmarks/` of the checkout that we run from, or that we stand in. The trained
    networks and the embedded sample are too heavy for a device, so they are never installed.

    Raises:
        Unavailable: There is no such folder, as after an install, elsewhere than in a checkout.
    """
    chosen = os.environ.get(VARIABLE)
    here = Path(__file__).resolve().parents[2] / "benchmarks"
    for folder in [Path(chosen)] if chosen else [here, Path.cwd() / "benchmarks"]:
        if (folder / "data").is_dir() or (folder / "networks").is_dir():
            return folder
    reason = f"${VARIABLE} names {chosen}, which" if chosen else f"this install has no checkout around it, and {here}"
    raise Unavailable(
        f"the bench's sample images and trained networks are missing: {reason} has neither `data` nor `networks` in it;"
        f" clone the repository and run this in it, or set {VARIABLE} to its folder `benchmarks`. This install"
        " can run `ecotta demo` as it is; or with data and a trained network of your own, see --data and --model"
    )


def is_published(data: str | Path) -> bool:
    """Whether `data` is a known name, or a folder with one of the layouts in or right below it."""
    folder = Path(data)
    return data == EMBEDDED or any(_holds_data(place) for place in (folder, *(folder / name for name in SUBFOLDERS)))


def find_image_set(data: str | Path, cache: Path | None = None) -> ImageSet:
    """Open what `data` names.

    Args:
        data: `fashion-mnist-c` or a folder (see the table above); a folder around one of the official folders will do.
        cache: Folder for frames that are corrupted here; None keeps nothing.

    Raises:
        UsageError: Neither a known name nor a folder with a known layout.
        InputFileError: A file of the folder is not what it should be.
        Unavailable: The embedded sample is not installed.
    """
    if data == EMBEDDED:
        folder = assets_folder() / SAMPLE
        if not fashion_mnist.is_fashion_mnist(folder):
            raise Unavailable(
                f"the embedded sample is missing: {folder} does not hold it; check out the repository again"
            )
        return _corrupted_here(EMBEDDED, folder, None, cache)
    folder = Path(data)
    if not folder.is_dir():
        nearest = get_close_matches(str(data), [EMBEDDED], n=1, cutoff=0.5)
        hint = f"; did you mean {nearest[0]}?" if nearest else ""
        raise UsageError(f"data {str(data)!r}: no such folder; the only known name is {EMBEDDED}{hint}")
    return _image_set_in(_unwrapped(folder), cache)


def _unwrapped(folder: Path) -> Path:
    """The folder itself, or the one official folder that it wraps."""
    if _holds_data(folder):
        return folder
    inside = [folder / name for name in SUBFOLDERS if _holds_data(folder / name)]
    if len(inside) > 1:
        raise UsageError(f"data {folder}: holds {' and '.join(path.name for path in inside)}; name one of them")
    if not inside:
        raise UsageError(
            f"data {folder}: holds none of the layouts we read: CIFAR-10-C or CIFAR-100-C (.npy), CIFAR-10 or CIFAR-100"
            f" (binary version, .bin), Fashion-MNIST (idx.gz)"
        )
    return inside[0]


def _holds_data(folder: Path) -> bool:
    return is_cifar_c(folder) or binary_in(folder) is not None or fashion_mnist.is_fashion_mnist(folder)


def _image_set_in(folder: Path, cache: Path | None) -> ImageSet:
    if is_cifar_c(folder):
        files = CifarC(folder)
        return _Published(f"cifar-{len(files.classes)}-c", files, folder)
    layout = binary_in(folder)
    return _corrupted_here(f"{layout.name} (corrupted here)" if layout else EMBEDDED, folder, layout, cache)


def _corrupted_here(name: str, folder: Path, layout: CifarBinary | None, cache: Path | None) -> _CorruptedHere:
    classes = class_names(layout) if layout else fashion_mnist.CLASSES
    return _CorruptedHere(name, classes, folder, layout, cache)


def _read_clean(folder: Path, layout: CifarBinary | None, split: str) -> Images:
    if layout is not None:
        return read_binary(folder, layout, split)
    frames, labels = fashion_mnist.read_fashion_mnist(folder, "t10k" if split == "test" else "train")
    if len(labels) == 0:
        raise InputFileError(f"{folder}: no {split} images in it")
    return frames, labels.astype(np.int64)
