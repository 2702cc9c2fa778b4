"""What lies in a folder of pictures: class folders, with or without a part that is held out, or pictures alone."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ecotta_rt.errors import InputFileError, UsageError
from ecotta_rt.sources.images import in_natural_order

__all__ = ["ClassFolders", "class_folder_names", "find_pictures", "is_class_folders", "open_class_folders"]

_TRAINING = ("train", "training")
_HELD_OUT = ("val", "valid", "validation", "test")  # the first that is there
_SPLIT = {*_TRAINING, *_HELD_OUT}


@dataclass(frozen=True, eq=False)
class ClassFolders:
    """Files in class folders, by their label; what kind of files they are is seen when they are decoded.

    Attributes:
        classes: Names by label.
        files: To learn from, class by class.
        labels: int64 `[N]`, of `files`.
        held_out_files: From `val` and the like; empty where there is no such folder.
        held_out_labels: int64 `[M]`, of `held_out_files`.
    """

    classes: tuple[str, ...]
    files: tuple[Path, ...]
    labels: NDArray[np.int64]
    held_out_files: tuple[Path, ...]
    held_out_labels: NDArray[np.int64]


def find_pictures(folder: str | Path) -> tuple[Path, ...]:
    """Every file in a folder and the folders below it, in natural order; hidden ones left out.

    Raises:
        InputFileError: The folder cannot be read, or there is no file.
    """
    found = _files(Path(folder))
    if not found:
        raise InputFileError(f"{folder}: no file in it or in the folders below it; give a folder of pictures")
    return found


def is_class_folders(folder: Path) -> bool:
    """Whether files lie in folders in it."""
    return folder.is_dir() and any(_files(inner) for inner in _folders(folder))


def class_folder_names(folder: Path) -> tuple[str, ...]:
    """Names of the class folders that `open_class_folders` would learn from, in alphabetical order."""
    return tuple(inner.name for inner in _folders(_parts(folder)[0]))


def open_class_folders(folder: str | Path, classes: Sequence[str] = ()) -> ClassFolders:
    """Find the files of a folder in the layout `FOLDER/CLASS/...`, or `FOLDER/train/CLASS/...` with `val` beside it.

    Labels count the class folders in alphabetical order, capitals first, as torchvision's ImageFolder does.

    Args:
        folder: It.
        classes: Names by label, instead: each the name of a folder, or `FOLDER=NAME`. Some may have no folder.

    Raises:
        UsageError: `classes` has a name twice, or lacks that of a folder.
        InputFileError: No class folders, fewer than two classes, an empty one, or a name that is not printable.
    """
    root = Path(folder)
    training, held_out = _parts(root)
    by_class = {inner.name: _files(inner) for inner in _folders(training)}
    if len(by_class) < 2 and not classes:
        raise InputFileError(
            f"{training}: {len(by_class)} class folders, expected at least 2: FOLDER/CLASS/PICTURE, a folder for each"
        )
    names, label_of = _labels(tuple(by_class), classes)
    for name, files in by_class.items():
        if not files:
            raise InputFileError(f"{training / name}: no file in it; a class needs pictures, or remove its folder")
    files, labels = _labelled(by_class, label_of, training)
    others = {} if held_out is None else {inner.name: _files(inner) for inner in _folders(held_out)}
    return ClassFolders(names, files, labels, *_labelled(others, label_of, held_out or root))


def _parts(root: Path) -> tuple[Path, Path | None]:
    """Where the pictures to learn from are, and those held out."""
    inside = {inner.name: inner for inner in _folders(root)}
    if not inside.keys() <= _SPLIT:
        return root, None  # a class may be called train, or test
    training = next((inside[name] for name in _TRAINING if name in inside), None)
    if training is None or not _folders(training):
        return root, None
    return training, next((inside[name] for name in _HELD_OUT if name in inside), None)


def _labels(folders: Sequence[str], classes: Sequence[str]) -> tuple[tuple[str, ...], Mapping[str, int]]:
    """Names by label, and the label of each folder."""
    if not classes:
        unprintable = next((name for name in folders if not name.isprintable()), None)
        if unprintable is not None:
            raise InputFileError(
                f"the folder {unprintable!a} has no printable name to call a class by; rename it, or give --classes"
            )
        return tuple(folders), {name: label for label, name in enumerate(folders)}
    pairs = [(folder, name or folder) for folder, _, name in (given.partition("=") for given in classes)]
    names = tuple(name for _, name in pairs)
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise UsageError(f"--classes names {twice[0]!r} twice; each class once, in the order of the network's outputs")
    label_of = {folder: label for label, (folder, _) in enumerate(pairs)}
    unknown = [folder for folder in folders if folder not in label_of]
    if unknown:
        raise UsageError(
            f"--classes does not name the folder {unknown[0]!r}; it names {_listed([folder for folder, _ in pairs])}. "
            "Write FOLDER=NAME where they differ"
        )
    return names, label_of


def _labelled(
    by_class: Mapping[str, tuple[Path, ...]], label_of: Mapping[str, int], where: Path
) -> tuple[tuple[Path, ...], NDArray[np.int64]]:
    unknown = [name for name in by_class if name not in label_of]
    if unknown:
        raise InputFileError(f"{where / unknown[0]}: no class of that name; known: {_listed(list(label_of))}")
    files = tuple(path for paths in by_class.values() for path in paths)
    labels = [label_of[name] for name, paths in by_class.items() for _ in paths]
    return files, np.array(labels, np.int64)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")


def _folders(folder: Path) -> list[Path]:
    try:
        inside = [entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith(".")]
    except OSError as error:
        raise InputFileError(f"{folder}: cannot be read ({error.strerror or error})") from error
    return sorted(inside, key=lambda entry: entry.name)


def _files(folder: Path) -> tuple[Path, ...]:
    """Links to files are followed, links to folders are not: they may lead round in circles."""

    def fail(error: OSError) -> None:
        raise InputFileError(f"{error.filename}: cannot be read ({error.strerror or error})") from error

    found: list[Path] = []
    for place, folders, names in os.walk(folder, onerror=fail):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(place, name) for name in names if not name.startswith(".")]
    return tuple(sorted(found, key=in_natural_order))
