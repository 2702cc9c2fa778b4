"""Sets for the warm-up: frames to learn from, and frames held out to see what the warm-up did."""

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
from ecotta_rt.data.split import hold_out
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
    "chosen",
    "common_size",
    "made_to_fit",
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


class LabelledPictures:
    """Pictures in class folders.

    Args:
        folders: Where they are.
        share: To hold out of each class, where the folders hold nothing out themselves.
        count: How many to use, chosen at random; None: all.
        seed: Of what is chosen.

    Raises:
        UsageError: A share or count out of range.
    """

    def __init__(self, folders: ClassFolders, *, share: float, count: int | None = None, seed: int = 0) -> None:
        self.classes = folders.classes
        files, labels = np.array(folders.files, object), folders.labels
        places = chosen(len(files), count, seed)
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
        return common_size(self._files)

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


class LabelledArrays:
    """Frames that are in memory already.

    Args:
        frames: uint8 `[N, H, W, C]`.
        labels: int64 `[N]`.
        classes: Names by label.
        share: To hold out of each class.
        seed: Of what is held out.
    """

    def __init__(
        self,
        frames: NDArray[np.uint8],
        labels: NDArray[np.int64],
        classes: Sequence[str],
        *,
        share: float = 0.0,
        seed: int = 0,
    ) -> None:
        self.classes = tuple(classes)
        self._frames, self._labels = frames, labels
        self._kept, self._held = hold_out(labels, share, seed)
        self.count = len(self._kept)

    def common_size(self) -> tuple[int, int]:
        height, width = self._frames.shape[1:3]
        return height, width

    def frames(self, frame: FrameSpec, store: Path, report: DecodeCallback | None = None) -> SourceData:
        frames = made_to_fit(self._frames, frame)
        if not len(self._held):
            return SourceData(Labelled(frames, self._labels))
        training, held_out = (Labelled(frames[places], self._labels[places]) for places in (self._kept, self._held))
        return SourceData(training, held_out)


def common_size(files: Sequence[Path]) -> tuple[int, int]:
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


def made_to_fit(frames: NDArray[np.uint8], frame: FrameSpec) -> NDArray[np.uint8]:
    """Frames uint8 `[N, H, W, C]` as the network takes them."""
    if frames.shape[1:] == (*frame.size, frame.channels) and frame.crop == 1:
        return frames
    return np.stack([preprocess(pixels, frame) for pixels in frames])


def chosen(there: int, count: int | None, seed: int) -> NDArray[np.int64]:
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
