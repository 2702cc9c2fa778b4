"""What data a user names, or has: pictures with labels, or without.

| data | is |
| --- | --- |
| FILE.npz | `x_train`, `y_train` (see `ecotta_rt.data.npz`) |
| FILE.npy | frames uint8 `[N, H, W, C]` without labels, such as one corruption of CIFAR-10-C |
| arrays | frames uint8 `[N, H, W, C]`; of labelled data a pair of these and labels int64 `[N]` |
| folder of .bin or idx files | CIFAR-10, CIFAR-100 or Fashion-MNIST as published |
| FOLDER/CLASS/..., FOLDER/train/CLASS/... | pictures in class folders |
| another folder | pictures without labels |

Nothing is decoded here. Labels of a target are never learned from. Its class folders are compared with the source's all
the same: other names mean another task, or a folder named by mistake.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ecotta_rt.data import (
    LabelledArrays,
    LabelledPictures,
    LabelledSet,
    UnlabelledArrays,
    UnlabelledPictures,
    class_folder_names,
    find_pictures,
    is_class_folders,
    open_class_folders,
)
from ecotta_rt.data.image_sets import find_image_set, is_published
from ecotta_rt.data.npz import read_npz
from ecotta_rt.errors import EcottaError, InputFileError, UsageError
from ecotta_rt.files.npy import map_npy

__all__ = ["LabelledData", "UnlabelledData", "find_labelled", "find_unlabelled"]

LabelledData = str | Path | tuple[NDArray[np.uint8], NDArray[np.int64]]
UnlabelledData = str | Path | NDArray[np.uint8]
"""See the table above."""

_Arrays = tuple[NDArray[np.uint8], NDArray[np.int64] | None, tuple[str, ...]]

_SHOWN_NAMES = 8


def find_labelled(
    data: LabelledData,
    classes: Sequence[str] = (),
    *,
    split: str = "train",
    count: int | None = None,
    seed: int = 0,
    what: str = "source",
) -> LabelledSet:
    """Look at labelled data; of class folders, what they hold out is not looked at.

    Args:
        data: See the table above.
        classes: Names by label, instead of those of the folders; as for `open_class_folders`.
        split: `train` or `test`, where the data have both; of class folders those to learn from are used.
        count: At most so many, chosen at random; None: all.
        seed: Of that choice.
        what: What messages call them.

    Raises:
        UsageError: Data without labels or of one class.
        InputFileError: Data that cannot be read.
    """
    said = what if isinstance(data, tuple) else f"{what} {data}"
    arrays = _given_pair(data, said) if isinstance(data, tuple) else _arrays(data, split)
    if arrays is not None:
        frames, labels, names = arrays
        if labels is None:
            raise UsageError(f"{said}: it has no labels; one is needed for each picture")
        _require_classes(said, len(np.unique(labels)))
        known = tuple(classes) or names or tuple(map(str, range(int(labels.max()) + 1)))
        if labels.max() >= len(known):
            raise UsageError(f"{said}: labels go up to {labels.max()}, and the classes name {len(known)}")
        places = _some(len(frames), count, seed)
        return LabelledArrays(frames[places], labels[places], known)
    assert not isinstance(data, tuple)
    folder = Path(data)
    if not folder.is_dir():
        raise InputFileError(f"{said}: no such folder, and no .npz file")
    if not is_class_folders(folder):
        raise UsageError(f"{said}: no class folders in it; labels are needed: FOLDER/CLASS/PICTURE")
    folders = open_class_folders(folder, classes)
    folders = replace(folders, held_out_files=(), held_out_labels=np.empty(0, np.int64))
    _require_classes(said, len(np.unique(folders.labels)))
    return LabelledPictures(folders, share=0.0, count=_at_most(count, len(folders.files)), seed=seed)


def find_unlabelled(
    name: str,
    data: UnlabelledData,
    classes: tuple[str, ...],
    *,
    given: Sequence[str] = (),
    plain: bool = False,
    count: int | None = None,
    seed: int = 0,
) -> LabelledSet:
    """Look at data of a target.

    Args:
        name: Of the target, for messages.
        data: See the table above.
        classes: Of the source.
        given: What the user called them, as for `open_class_folders`, where that is not the same.
        plain: Folders inside are no classes.
        count: At most so many, chosen at random; None: all.
        seed: Of that choice.

    Raises:
        UsageError: An array that holds no frames.
        InputFileError: Data that cannot be read, no pictures, or class folders with names that the source has not.
    """
    if isinstance(data, np.ndarray):
        _require_frames(data, f"target {name}", UsageError)
        return UnlabelledArrays(data[_some(len(data), count, seed)], classes)
    arrays = _arrays(data, "train")
    if arrays is not None:
        frames = arrays[0]
        return UnlabelledArrays(frames[_some(len(frames), count, seed)], classes)
    folder = Path(data)
    if not folder.is_dir():
        raise InputFileError(f"target {name}: {data}: no such folder, and no .npz or .npy file")
    if not plain and is_class_folders(folder):
        files = _of_the_same_classes(name, folder, given or classes)
    else:
        files = find_pictures(folder)
    return UnlabelledPictures(files, classes, count=_at_most(count, len(files)), seed=seed)


def _of_the_same_classes(name: str, folder: Path, classes: Sequence[str]) -> tuple[Path, ...]:
    """The files to learn from, once their class folders are known to be some of the source's; `classes` as given."""
    known = [text.partition("=")[0] for text in classes]
    strange = [each for each in class_folder_names(folder) if each not in known]
    if strange:
        raise InputFileError(
            f"target {name}: {folder} has folders that are no class of the source: {_listed(strange)}; the source has "
            f"{_listed(known)}. Rename them, or say that its folders are no classes (plain targets)"
        )
    return open_class_folders(folder, classes).files


def _given_pair(pair: tuple[NDArray[np.uint8], NDArray[np.int64]], said: str) -> _Arrays:
    frames, labels = pair
    _require_frames(frames, said, UsageError)
    if labels.ndim != 1 or len(labels) != len(frames) or labels.dtype.kind not in "iu" or labels.min() < 0:
        raise UsageError(
            f"{said}: labels {labels.dtype} {list(labels.shape)} for {len(frames)} frames; expected one for each, "
            "int64 [N], from 0"
        )
    return frames, labels.astype(np.int64), ()


def _arrays(data: str | Path, split: str) -> _Arrays | None:
    """Frames, labels and class names of what is no folder of pictures."""
    path = Path(data)
    if path.suffix == ".npz":
        return (*read_npz(path, split), ())
    if path.suffix == ".npy":
        return _frames_in(path), None, ()
    if is_published(data):
        images = find_image_set(data)
        if split == "train":
            return (*images.training(), images.classes)
        return images.clean(np.arange(images.count)), images.labels, images.classes
    return None


def _frames_in(path: Path) -> NDArray[np.uint8]:
    array = map_npy(path)
    _require_frames(array, str(path), InputFileError)
    return array


def _require_frames(array: NDArray[np.uint8], said: str, error: type[EcottaError]) -> None:
    if array.dtype != np.uint8 or array.ndim != 4 or array.shape[-1] not in (1, 3) or not array.size:
        raise error(f"{said}: {array.dtype} {list(array.shape)}; expected frames, uint8 [N, H, W, 3]")


def _require_classes(said: str, there: int) -> None:
    if there < 2:
        raise UsageError(f"{said}: pictures of {there} class; a network tells at least 2 apart")


def _some(there: int, count: int | None, seed: int) -> NDArray[np.int64]:
    """Places of at most `count` at random, rising."""
    if count is None or count >= there:
        return np.arange(there)
    return np.sort(np.random.default_rng(seed).permutation(there)[:count])


def _at_most(count: int | None, there: int) -> int | None:
    return None if count is None else min(count, there)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN_NAMES]) + (f" and {len(names) - _SHOWN_NAMES} more" * (len(names) > _SHOWN_NAMES))
