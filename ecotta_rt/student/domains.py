"""The pictures of a student: labelled ones of a source domain, and unlabelled ones of each target domain.

    find_domains(source, targets)  ->  FoundDomains: looked at, nothing decoded; what cannot be meant is refused here
    FoundDomains.frames(frame, store)  ->  Domains: frames of the size that the networks take

| data | is |
| --- | --- |
| FILE.npz | `x_train`, `y_train` (see `ecotta_rt.data.npz`) |
| FILE.npy | frames uint8 `[N, H, W, C]` without labels, such as one corruption of CIFAR-10-C |
| folder of .bin or idx files | CIFAR-10, CIFAR-100 or Fashion-MNIST as published |
| FOLDER/CLASS/..., FOLDER/train/CLASS/... | pictures in class folders |
| another folder | pictures without labels |

Labels of a target are never learned from. Its class folders are compared with the source's all the same: other names
mean another task, or a folder named by mistake.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from ecotta_rt.bundle import FrameSpec
from ecotta_rt.data import (
    LabelledArrays,
    LabelledPictures,
    LabelledSet,
    Left,
    Unlabelled,
    UnlabelledArrays,
    UnlabelledPictures,
    class_folder_names,
    find_pictures,
    is_class_folders,
    open_class_folders,
    remove_store,
)
from ecotta_rt.data.decoding import DecodeCallback
from ecotta_rt.data.image_sets import find_image_set, is_published
from ecotta_rt.data.npz import read_npz
from ecotta_rt.errors import InputFileError, UsageError
from ecotta_rt.files.npy import map_npy
from ecotta_rt.prepare.snapshot import array_digest

__all__ = ["Domain", "Domains", "FoundDomains", "find_domains", "find_labelled", "frames_digest", "open_domains"]

_SHOWN_NAMES = 8
_SAMPLED = 64


@dataclass(frozen=True, eq=False)
class Domain:
    """Pictures of one place or style.

    Attributes:
        name: What the user calls it.
        frames: uint8 `[N, H, W, C]`.
        labels: int64 `[N]`; None where there are none, as in every target.
    """

    name: str
    frames: NDArray[np.uint8]
    labels: NDArray[np.int64] | None = None


@dataclass(frozen=True, eq=False)
class Domains:
    """What a student learns from.

    Attributes:
        source: With labels.
        targets: Without.
        classes: Names by label.
        left_out: Files that gave no frame.
    """

    source: Domain
    targets: tuple[Domain, ...]
    classes: tuple[str, ...]
    left_out: tuple[Left, ...] = ()

    def __post_init__(self) -> None:
        if self.source.labels is None:
            raise UsageError(f"source {self.source.name}: it has no labels; a source needs one for each picture")
        sizes = {domain.frames.shape[1:] for domain in (self.source, *self.targets)}
        if len(sizes) > 1:
            raise UsageError(f"domains of different frames: {sorted(sizes)}; all must have one size and colour")
        low, high = int(self.source.labels.min()), int(self.source.labels.max())
        if low < 0 or high >= len(self.classes):
            raise UsageError(f"labels go from {low} to {high}, and there are {len(self.classes)} classes")

    def identity(self) -> dict[str, str]:
        """What tells these data from others, for the record of a run: names, counts, labels and first frames."""
        said = {f"domain {domain.name}": _described(domain) for domain in (self.source, *self.targets)}
        return {**said, "labels": array_digest(self.labels), "classes": ", ".join(self.classes)}

    @property
    def labels(self) -> NDArray[np.int64]:
        """Of the source, int64 `[N]`."""
        assert self.source.labels is not None
        return self.source.labels


@dataclass(frozen=True, eq=False)
class FoundDomains:
    """Domains that have been looked at and not decoded yet.

    Attributes:
        source: Labelled.
        targets: By name.
        classes: Names by label.
    """

    source: LabelledSet
    targets: Mapping[str, LabelledSet]
    classes: tuple[str, ...]

    def common_size(self) -> tuple[int, int]:
        """Height and width of the source's pictures; UsageError where they differ."""
        return self.source.common_size()

    def frames(self, frame: FrameSpec, store: Path, report: DecodeCallback | None = None) -> Domains:
        """Make frames of them all.

        Args:
            frame: What the networks take.
            store: Where decoded pictures are kept, a file a domain with its name behind this one's; see
                `decode_pictures`. Remove them with `remove`.
            report: As for `decode_pictures`, over all domains.

        Raises:
            As `decode_pictures`.
        """
        total = self.source.count + sum(target.count for target in self.targets.values())
        left: list[Left] = []
        before = 0

        def made(name: str, pictures: LabelledSet) -> Domain:
            nonlocal before
            told = None if report is None else (lambda done, _, base=before: report(base + done, total))
            data = pictures.frames(frame, _store(store, name), told)
            before += pictures.count
            left.extend(data.left_out)
            labels = None if isinstance(data.training, Unlabelled) else data.training.labels
            return Domain(name, data.training.frames, labels)

        source = made("source", self.source)
        targets = [made(name, pictures) for name, pictures in self.targets.items()]
        without_labels = tuple(Domain(target.name, target.frames) for target in targets)
        return Domains(source, without_labels, self.classes, tuple(left))

    def remove(self, store: Path) -> None:
        """Remove what `frames` keeps."""
        for name in ("source", *self.targets):
            remove_store(_store(store, name))


def find_domains(
    source: str | Path,
    targets: Mapping[str, str | Path],
    *,
    classes: Sequence[str] = (),
    plain_targets: bool = False,
    count: int | None = None,
    seed: int = 0,
) -> FoundDomains:
    """Look at the data of all domains, and refuse what cannot be meant before anything is decoded.

    Args:
        source: Labelled data, see the table above.
        targets: By the name of the domain; may be empty.
        classes: Names by label, instead of those of the folders; as for `open_class_folders`.
        plain_targets: Folders inside of targets are no classes (dates, cameras).
        count: Pictures to use of each domain that has more, chosen at random; None: all.
        seed: Of that choice.

    Raises:
        UsageError: A source without labels or of one class, or a `count` below 1.
        InputFileError: Data that cannot be read; a target without pictures; class folders with names that the source
            has not.
    """
    if count is not None and count < 1:
        raise UsageError(f"--frames {count}: at least 1 of each domain")
    labelled = find_labelled(source, classes, count=count, seed=seed)
    found: dict[str, LabelledSet] = {}
    for name, data in targets.items():
        found[name] = _find_target(name, data, labelled.classes, classes, plain_targets, count, seed)
    return FoundDomains(labelled, MappingProxyType(found), labelled.classes)


def open_domains(
    source: str | Path,
    targets: Mapping[str, str | Path],
    frame: FrameSpec,
    store: Path,
    *,
    classes: Sequence[str] = (),
    plain_targets: bool = False,
    count: int | None = None,
    seed: int = 0,
    report: DecodeCallback | None = None,
) -> Domains:
    """`find_domains` and `FoundDomains.frames` in one."""
    found = find_domains(source, targets, classes=classes, plain_targets=plain_targets, count=count, seed=seed)
    return found.frames(frame, store, report)


def find_labelled(
    data: str | Path,
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
        classes: As for `find_domains`.
        split: `train` or `test`, where the data have both; of class folders those to learn from are used.
        count: At most so many, chosen at random; None: all.
        seed: Of that choice.
        what: What messages call them.

    Raises:
        As `find_domains`.
    """
    arrays = _arrays(data, split)
    if arrays is not None:
        frames, labels, names = arrays
        if labels is None:
            raise UsageError(f"{what} {data}: it has no labels; one is needed for each picture")
        _require_classes(f"{what} {data}", len(np.unique(labels)))
        known = tuple(classes) or names or tuple(map(str, range(int(labels.max()) + 1)))
        if labels.max() >= len(known):
            raise UsageError(f"{data}: labels go up to {labels.max()}, and --classes names {len(known)}")
        places = _some(len(frames), count, seed)
        return LabelledArrays(frames[places], labels[places], known)
    folder = Path(data)
    if not folder.is_dir():
        raise InputFileError(f"{what} {data}: no such folder, and no .npz file")
    if not is_class_folders(folder):
        raise UsageError(f"{what} {data}: no class folders in it; labels are needed: FOLDER/CLASS/PICTURE")
    folders = open_class_folders(folder, classes)
    folders = replace(folders, held_out_files=(), held_out_labels=np.empty(0, np.int64))
    _require_classes(f"{what} {data}", len(np.unique(folders.labels)))
    return LabelledPictures(folders, share=0.0, count=_at_most(count, len(folders.files)), seed=seed)


def frames_digest(frames: NDArray[np.uint8]) -> str:
    """Of the first frames, which stand for a set that may be larger than memory."""
    return array_digest(frames[:_SAMPLED])


def _find_target(
    name: str,
    data: str | Path,
    classes: tuple[str, ...],
    given: Sequence[str],
    plain: bool,
    count: int | None,
    seed: int,
) -> LabelledSet:
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
            f"{_listed(known)}. Rename them, or give --plain-targets where its folders are no classes"
        )
    return open_class_folders(folder, classes).files


def _arrays(data: str | Path, split: str) -> tuple[NDArray[np.uint8], NDArray[np.int64] | None, tuple[str, ...]] | None:
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
    if array.dtype != np.uint8 or array.ndim != 4 or array.shape[-1] not in (1, 3):
        raise InputFileError(f"{path}: {array.dtype} {list(array.shape)}; expected frames, uint8 [N, H, W, 3]")
    return array


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


def _described(domain: Domain) -> str:
    height, width = domain.frames.shape[1:3]
    return f"{len(domain.frames)} of {height}x{width}, {frames_digest(domain.frames)}"


def _store(store: Path, name: str) -> Path:
    return store.with_name(f"{store.name}.{name}")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN_NAMES]) + (f" and {len(names) - _SHOWN_NAMES} more" * (len(names) > _SHOWN_NAMES))
