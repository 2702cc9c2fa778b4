"""Labelled pictures of a bundle's own classes, of which only those that are shown are decoded."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ecotta_rt.bundle import FrameSpec, Manifest
from ecotta_rt.data import LabelledArrays, decode_pictures, find_pictures, is_class_folders, open_class_folders
from ecotta_rt.data.decoding import DecodeCallback
from ecotta_rt.data.image_sets import find_image_set, is_published
from ecotta_rt.data.stream import source_frames
from ecotta_rt.errors import UsageError

__all__ = ["Pictures", "open_pictures"]


class Pictures(Protocol):
    """A set of which the labels are known."""

    @property
    def labels(self) -> NDArray[np.int64]:
        """Of all, int64 `[M]`."""

    def frames(
        self, places: NDArray[np.int64], frame: FrameSpec, store: Path, report: DecodeCallback | None = None
    ) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """Make frames of some.

        Args:
            places: int64 `[N]`, rising.
            frame: What the network takes.
            store: As in `decode_pictures`.
            report: As there.

        Returns:
            Frames uint8 `[n, H, W, C]` of those that can be decoded, and which can, bool `[N]`.
        """


@dataclass(frozen=True, eq=False)
class _Files:
    files: tuple[Path, ...]
    labels: NDArray[np.int64]

    def frames(
        self, places: NDArray[np.int64], frame: FrameSpec, store: Path, report: DecodeCallback | None = None
    ) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        decoded = decode_pictures([self.files[place] for place in places], frame, store, report)
        there = np.zeros(len(places), np.bool_)
        there[decoded.places] = True
        return decoded.frames, there


@dataclass(frozen=True, eq=False)
class _Arrays:
    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]

    def frames(
        self, places: NDArray[np.int64], frame: FrameSpec, store: Path, report: DecodeCallback | None = None
    ) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        chosen = LabelledArrays(self.pixels[places], self.labels[places], ())
        return chosen.frames(frame, store).training.frames, np.ones(len(places), np.bool_)


def open_pictures(data: str, manifest: Manifest, names: Sequence[str] = ()) -> Pictures:
    """Look at what `--data` names. Where something is held out, as by a folder `val`, it is that.

    Args:
        data: Class folders, or a published set, of which the training images are taken.
        manifest: Of the bundle.
        names: Classes in the order of its outputs, or `FOLDER=NAME`, where folders are called otherwise.

    Raises:
        UsageError: No labels, or other classes than the bundle's.
        InputFileError, TransferError, Unavailable: They cannot be read.
    """
    folder = Path(data)
    if not is_published(data) and folder.is_dir():
        if is_class_folders(folder):
            return _in_folders(data, manifest, names)
        find_pictures(folder)
        raise UsageError(
            f"{data}: pictures without labels, and errors are counted by them; put them in class folders, "
            "FOLDER/CLASS/PICTURE"
        )
    classes = tuple(names) or find_image_set(data).classes
    _require_same(classes, manifest.classes, data)
    return _Arrays(*source_frames(data))


def _in_folders(data: str, manifest: Manifest, names: Sequence[str]) -> Pictures:
    try:
        folders = open_class_folders(data, names or manifest.classes)
    except UsageError as error:
        if names:
            raise
        found = open_class_folders(data).classes
        raise UsageError(_other_classes(found, manifest.classes, data)) from error
    _require_same(folders.classes, manifest.classes, data)
    if len(folders.held_out_files):
        return _Files(folders.held_out_files, folders.held_out_labels)
    return _Files(folders.files, folders.labels)


def _require_same(classes: Sequence[str], expected: Sequence[str], data: str) -> None:
    if tuple(classes) != tuple(expected):
        raise UsageError(_other_classes(classes, expected, data))


def _other_classes(classes: Sequence[str], expected: Sequence[str], data: str) -> str:
    here, there = (", ".join(names[:4]) + (", ..." if len(names) > 4 else "") for names in (classes, expected))
    return (
        f"{data}: other classes ({len(classes)}: {here}) than the bundle's ({len(expected)}: {there}); say with "
        "--classes FOLDER=NAME,... which folder is which class"
    )
