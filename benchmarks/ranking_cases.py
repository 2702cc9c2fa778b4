"""The sources and the targets of measure_ranking.py, made of the pictures in $ECOTTA_DATA, 16x16 to be quick.

digits     MNIST's 5 to 9. Three sources know the digits 0 to 4, of MNIST, USPS and MNIST-M; five know photographs and
           drawings.
pictures   Five classes of CIFAR-10. Two sources know the other five, three a style of PACS (dogs and horses among its
           seven classes), two digits.
halves     MNIST's ten digits. Four sources know half of them each, 0 to 4 or 5 to 9, of USPS and MNIST-M; four know
           photographs and drawings. No source knows all that is asked, and two together do.

No source has seen a picture of its target.
"""

import io
import os
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ecotta_rt.bundle import FrameSpec
from ecotta_rt.student.named_data import find_labelled

__all__ = ["SOURCES", "SOURCES_BY_TARGET", "TARGET_CLASSES", "Pictures", "Source", "target"]

TARGET_CLASSES = ("automobile", "bird", "cat", "horse", "ship")
SIDE = 16


@dataclass(frozen=True, eq=False)
class Pictures:
    """Frames uint8 `[N, 16, 16, 3]`, labels int64 `[N]` and the names of the classes."""

    frames: NDArray[np.uint8]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]


@dataclass(frozen=True)
class Source:
    """What a source network learned: its pictures, and for how many epochs so that all see about as many."""

    pictures: Callable[[], Pictures]
    epochs: int
    flips: bool = True


def _data() -> Path:
    return Path(os.environ["ECOTTA_DATA"])


def cifar(wanted: tuple[str, ...], split: str = "train") -> Pictures:
    """These classes of CIFAR-10."""
    return _of_classes(_data() / "cifar-10-batches-bin", wanted, split)


def pacs(style: str) -> Pictures:
    """One style of PACS, seven classes."""
    from PIL import Image

    frames, names = [], []
    with zipfile.ZipFile(_data() / "domains" / "pacs96.zip") as archive:
        for name in sorted(archive.namelist()):
            parts = name.split("/")
            if style not in parts or name.endswith("/"):
                continue
            picture = Image.open(io.BytesIO(archive.read(name))).convert("RGB")
            frames.append(np.asarray(picture.resize((SIDE, SIDE), Image.Resampling.BOX)))
            names.append(parts[-2])
    classes = tuple(sorted(set(names)))
    return Pictures(np.stack(frames), np.array([classes.index(name) for name in names], np.int64), classes)


def digits(name: str, wanted: str = "0123456789", split: str = "train") -> Pictures:
    """These digits of one of the sets."""
    return _of_classes(_data() / "domains" / f"{name}.npz", tuple(wanted), split)


def _of_classes(data: Path, wanted: tuple[str, ...], split: str) -> Pictures:
    found = find_labelled(data, split=split)
    all_of_them = found.frames(FrameSpec(3, SIDE, SIDE), Path()).training  # arrays need no store
    numbers = [found.classes.index(name) for name in wanted]
    chosen = np.isin(all_of_them.labels, numbers)
    labels = np.searchsorted(numbers, all_of_them.labels[chosen]).astype(np.int64)
    return Pictures(all_of_them.frames[chosen], labels, wanted)


_LOW, _HIGH = "01234", "56789"

SOURCES: Mapping[str, Source] = {
    "cifar-vehicles": Source(lambda: cifar(("airplane", "truck")), 4),
    "cifar-animals": Source(lambda: cifar(("deer", "dog", "frog")), 4),
    "pacs-photo": Source(lambda: pacs("photo"), 16),
    "pacs-art": Source(lambda: pacs("art_painting"), 12),
    "pacs-sketch": Source(lambda: pacs("sketch"), 6),
    "mnistm": Source(lambda: digits("mnistm32"), 6, flips=False),
    "usps": Source(lambda: digits("usps_native16"), 2, flips=False),
    "mnist-low": Source(lambda: digits("mnist32", _LOW), 6, flips=False),
    "usps-low": Source(lambda: digits("usps_native16", _LOW), 6, flips=False),
    "mnistm-low": Source(lambda: digits("mnistm32", _LOW), 15, flips=False),
    "usps-high": Source(lambda: digits("usps_native16", _HIGH), 6, flips=False),
    "mnistm-high": Source(lambda: digits("mnistm32", _HIGH), 15, flips=False),
}


SOURCES_BY_TARGET: Mapping[str, tuple[str, ...]] = {
    "pictures": tuple(name for name in SOURCES if not name.endswith(("-low", "-high"))),
    "digits": ("mnist-low", "usps-low", "mnistm-low", *(name for name in SOURCES if name[:4] in ("cifa", "pacs"))),
    "halves": (
        *(f"{of}-{half}" for of in ("usps", "mnistm") for half in ("low", "high")),
        *("pacs-photo", "pacs-art", "pacs-sketch", "cifar-vehicles"),
    ),
}


def target(name: str) -> tuple[Pictures, Pictures]:
    """Training and test pictures of the target."""
    if name == "digits":
        return digits("mnist32", _HIGH), digits("mnist32", _HIGH, "test")
    if name == "halves":
        return digits("mnist32", _LOW + _HIGH), digits("mnist32", _LOW + _HIGH, "test")
    return cifar(TARGET_CLASSES), cifar(TARGET_CLASSES, "test")
