"""Sets for the warm-up, with labels and without: frames to learn from, and frames held out to see what it did."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ecotta_rt.bundle import FrameSpec
from ecotta_rt.data.decoding import DecodeCallback, Left, decode_pictures
from ecotta_rt.data.folders import ClassFolders
from ecotta_rt.errors import BadFrames, InputFileError, UsageError
from ecotta_rt.runtime.preprocess import preprocess
from ecotta_rt.sources.picture import picture_size

__all__ = [
    "Labelled",
    "LabelledArrays",
    "LabelledPictures",
    "LabelledSet",
    "SourceData",
    "Unlabelled",
    "UnlabelledArrays",
    "UnlabelledPictures",
    "hold_out",
]

_MOST_SIZES = 1000
"""Pictures to look at for the commonest size, once there are several."""


@dataclass(frozen=True, eq=False)
class Labelled:
    """Frames uint8 `[N, height, width, channels]` and their labels, int64 `[N]`."""

    frames: NDArray[np.uint8]
    labels: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Unlabelled:
    """Frames uint8 `[N, height, width, channels]` without labels."""

    frames: NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class SourceData:
    """What a warm-up learns from, as frames of the size that the network takes.

    Attributes:
        training: To learn from; without labels the network teaches itself.
        held_out: Not learned from; None where there are none.
        left_out: Files that gave no frame.
    """

    training: Labelled | Unlabelled
    held_out: Labelled | None = None
    left_out: tuple[Left, ...] = ()


class LabelledSet(Protocol):
    """A set that has been looked at and not decoded yet.

    Attributes:
        classes: Names by label; empty where nobody says.
        count: How many there are to learn from, as far as one can see without decoding.
    """

    @property
    def classes(self) -> tuple[str, ...]: ...

    @property
    def count(self) -> int: ...

    def common_size(self) -> tuple[int, int]:
        """Height and width that all have; UsageError where they differ."""

    def frames(self, frame: FrameSpec, store: Path, report: DecodeCallback | None = None) -> SourceData:
        """Make frames of them; `store` as in `decode_pictures`."""


class UnlabelledPictures:
    """Pictures without classes.

    Args:
        files: Where they are; see `find_pictures`.
        classes: What the network calls its outputs; empty where nobody says.
        count: How many to use, chosen at random; None: all.
        seed: Of the choice.

    Raises:
        UsageError: A count out of range.
    """

    def __init__(
        self, files: Sequence[Path], classes: Sequence[str] = (), *, count: int | None = None, seed: int = 0
    ) -> None:
        self.classes = tuple(classes)
        self._files = tuple(files[place] for place in _chosen(len(files), count, seed))
        self.count = len(self._files)

    def common_size(self) -> tuple[int, int]:
        return _common_size(self._files)

    def frames(self, frame: FrameSpec, store: Path, report: DecodeCallback | None = None) -> SourceData:
        decoded = decode_pictures(self._files, frame, store, report)
        return SourceData(Unlabelled(decoded.frames), left_out=decoded.left_out)


class LabelledPictures:
    """Pictures in class folders.

    Args:
        folders: Where they are.
        share: To hold out of each class, where the folders hold nothing out themselves.
        count: How many to use, chosen at random; None: all.
        seed: Of both choices.

    Raises:
        UsageError: A share or count out of range.
    """

    def __init__(self, folders: ClassFolders, *, share: float, count: int | None = None, seed: int = 0) -> None:
        self.classes = folders.classes
        files, labels = np.array(folders.files, object), folders.labels
        places = _chosen(len(files), count, seed)
        files, labels = files[places], labels[places]
        kept, held = hold_out(labels, share, seed)
        if len(folders.held_out_files):
            self._files = (*files, *folders.held_out_files)
            self._labels = np.concatenate([labels, folders.held_out_labels])
            self.count = len(files)
        else:
            self._files = (*files[kept], *files[held])
            self._labels = np.concatenate([labels[kept], labels[held]])
            self.count = len(kept)
        self._present = np.unique(labels)

    def common_size(self) -> tuple[int, int]:
        return _common_size(self._files)

    def frames(self, frame: FrameSpec, store: Path, report: DecodeCallback | None = None) -> SourceData:
        decoded = decode_pictures(self._files, frame, store, report)
        labels, training = self._labels[decoded.places], int((decoded.places < self.count).sum())
        missing = np.setdiff1d(self._present, labels[:training])
        if len(missing):
            names = ", ".join(self.classes[label] for label in missing)
            first = next(left for left in decoded.left_out if self._labels[self._files.index(left.path)] in missing)
            raise InputFileError(
                f"no picture of {names} can be used; {first.path}: {first.why}. Mend or remove the folder"
            )
        return SourceData(
            Labelled(decoded.frames[:training], labels[:training]),
            Labelled(decoded.frames[training:], labels[training:]) if len(labels) > training else None,
            decoded.left_out,
        )


class UnlabelledArrays:
    """Frames that are in memory already, uint8 `[N, H, W, C]`, and what the network calls its outputs."""

    def __init__(self, frames: NDArray[np.uint8], classes: Sequence[str] = ()) -> None:
        self.classes, self.count = tuple(classes), len(frames)
        self._frames = frames

    def common_size(self) -> tuple[int, int]:
        height, width = self._frames.shape[1:3]
        return height, width

    def frames(self, frame: FrameSpec, store: Path, report: DecodeCallback | None = None) -> SourceData:
        return SourceData(Unlabelled(_made_to_fit(self._frames, frame)))


class LabelledArrays(UnlabelledArrays):
    """The same with `labels`, int64 `[N]`; of each class a `share` is held out, chosen by `seed`."""

    def __init__(
        self,
        frames: NDArray[np.uint8],
        labels: NDArray[np.int64],
        classes: Sequence[str],
        *,
        share: float = 0.0,
        seed: int = 0,
    ) -> None:
        super().__init__(frames, classes)
        self._labels = labels
        self._kept, self._held = hold_out(labels, share, seed)
        self.count = len(self._kept)

    def frames(self, frame: FrameSpec, store: Path, report: DecodeCallback | None = None) -> SourceData:
        frames = _made_to_fit(self._frames, frame)
        if not len(self._held):
            return SourceData(Labelled(frames, self._labels))
        training, held_out = (Labelled(frames[places], self._labels[places]) for places in (self._kept, self._held))
        return SourceData(training, held_out)


def hold_out(labels: NDArray[np.int64], share: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Choose at random, class by class.

    Args:
        labels: int64 `[N]`.
        share: In [0, 1): of each class, to the nearest whole number; one stays to learn from in any case.
        seed: Of the choice.

    Returns:
        Places to learn from and places held out, int64, each rising. Of few pictures none may be held out.

    Raises:
        UsageError: `share` is out of range.
    """
    if not 0 <= share < 1:
        raise UsageError(f"--held-out {share}: a share of the pictures, from 0 to less than 1; 0.1 is every tenth")
    generator = np.random.default_rng(seed)
    held = np.zeros(len(labels), np.bool_)
    for label in np.unique(labels):
        places = generator.permutation(np.flatnonzero(labels == label))
        held[places[: min(round(share * len(places)), len(places) - 1)]] = True
    return np.flatnonzero(~held), np.flatnonzero(held)


def _common_size(files: Sequence[Path]) -> tuple[int, int]:
    """Height and width that all pictures have; UsageError where they differ."""
    sizes: Counter[tuple[int, int]] = Counter()
    for place, path in enumerate(files):
        if len(sizes) > 1 and place > _MOST_SIZES:  # enough to name the commonest
            break
        size = _size(path)
        if size is not None:
            sizes[size] += 1
    if len(sizes) == 1:
        return next(iter(sizes))
    if not sizes:
        raise InputFileError(f"{files[0].parent}: none of {len(files)} files is a picture")
    (height, width), most = sizes.most_common(1)[0]
    raise UsageError(
        f"the pictures differ in size ({most} of the first {sizes.total()} are {height}x{width}); say with --size "
        "HxW what the network takes"
    )


def _made_to_fit(frames: NDArray[np.uint8], frame: FrameSpec) -> NDArray[np.uint8]:
    """Frames uint8 `[N, H, W, C]` as the network takes them."""
    if frames.shape[1:] == (*frame.size, frame.channels) and frame.crop == 1:
        return frames
    return np.stack([preprocess(pixels, frame) for pixels in frames])


def _chosen(there: int, count: int | None, seed: int) -> NDArray[np.int64]:
    """Places of `count` at random among those there, rising; None: all."""
    if count is None:
        return np.arange(there)
    if not 1 <= count <= there:
        raise UsageError(f"--frames {count}: there are {there} pictures, so 1 to {there}")
    return np.sort(np.random.default_rng(seed).permutation(there)[:count])


def _size(path: Path) -> tuple[int, int] | None:
    try:
        return picture_size(path)
    except BadFrames:
        return None
