"""A stream: one corruption after the other, and the frames of each in the order they are played."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ecotta_rt.data.cifar import Images
from ecotta_rt.data.corruptions import CORRUPTIONS, SEVERITIES, check_corruption
from ecotta_rt.data.image_sets import EMBEDDED, ImageSet, find_image_set
from ecotta_rt.errors import UsageError

__all__ = ["Segment", "Stream", "open_stream", "source_frames"]

# What a random generator of ours decides; part of its seed, so that one choice never depends on another.
CORRUPTION_ORDER, FRAME_ORDER, TRAINING_CHOICE = range(3)


@dataclass(frozen=True, eq=False)
class Segment:
    """The frames of one corruption, in the order they are played.

    Attributes:
        corruption: Its name.
        frames: uint8 `[n, 32, 32, 3]`, RGB.
        labels: int64 `[n]`.
    """

    corruption: str
    frames: NDArray[np.uint8]
    labels: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Stream:
    """Segments in the order they are played, and what they were made of.

    Attributes:
        name: `fashion-mnist-c`, `cifar-10-c`, `cifar-100-c`, or `cifar-10 (corrupted here)`.
        segments: One a corruption.
        severity: 1 to 5.
        seed: Of the corruptions' randomness and of the order.
        frames_per_corruption: n of every segment.
        classes: Class names by label.
    """

    name: str
    segments: tuple[Segment, ...]
    severity: int
    seed: int
    frames_per_corruption: int
    classes: tuple[str, ...]


def open_stream(
    data: str | Path = EMBEDDED,
    *,
    corruptions: Sequence[str] = CORRUPTIONS,
    severity: int = 5,
    frames: int | None = None,
    seed: int = 0,
    shuffle_corruptions: bool = False,
    cache: Path | None = None,
) -> Stream:
    """Open a stream of corrupted test images.

    Every corruption draws its own frames from all test images and plays them in its own random order, so that few
    frames a corruption still cover many images.

    Args:
        data: `fashion-mnist-c` (the embedded sample, corrupted here), or a folder: CIFAR-10-C or CIFAR-100-C (.npy,
            read as it is), or the binary version of CIFAR-10 or CIFAR-100 (its test images are corrupted here).
        corruptions: Names from `CORRUPTIONS`, in the order they are played.
        severity: 1 to 5.
        frames: How many a corruption; None takes all.
        seed: Of all random choices, not negative.
        shuffle_corruptions: Play the corruptions in a random order.
        cache: Folder that keeps frames which are corrupted here; None keeps nothing.

    Raises:
        UsageError: An unknown name, a number out of range, or more frames than there are.
        InputFileError: A file of `data` is missing, truncated or of another kind.
        TransferError: A file could not be read or the cache not written.
        Unavailable: The embedded sample or the extra `bench` is not installed.
    """
    names = _checked_names(corruptions)
    if severity not in SEVERITIES:
        raise UsageError(f"severity {severity!r}: it goes from 1 (slight) to 5 (severe)")
    _check_seed(seed)
    source = find_image_set(data, cache)
    count = _checked_count(frames, source.count, f"test images in {source.name}")
    if shuffle_corruptions:
        order = np.random.default_rng((seed, CORRUPTION_ORDER)).permutation(len(names))
        names = tuple(names[place] for place in order)
    segments = tuple(_segment(source, name, severity, count, seed) for name in names)
    return Stream(source.name, segments, severity, seed, count, source.classes)


def source_frames(data: str | Path = EMBEDDED, count: int | None = None, seed: int = 0) -> Images:
    """Clean training images that belong to a stream's test images, for warm-up and tuning.

    Args:
        data: As for `open_stream`. Beside a CIFAR-10-C folder the binary version of CIFAR-10 is looked for.
        count: How many, at random; None takes all.
        seed: Of the choice and the order.

    Returns:
        Frames uint8 `[count, 32, 32, 3]` and labels int64 `[count]`. None of them is a test image.

    Raises:
        UsageError, InputFileError, TransferError, Unavailable: As `open_stream`.
    """
    _check_seed(seed)
    frames, labels = find_image_set(data).training()
    wanted = _checked_count(count, len(labels), f"training images in {data}")
    places = np.random.default_rng((seed, TRAINING_CHOICE)).permutation(len(labels))[:wanted]
    return frames[places], labels[places]


def _segment(source: ImageSet, corruption: str, severity: int, count: int, seed: int) -> Segment:
    generator = np.random.default_rng((seed, FRAME_ORDER, CORRUPTIONS.index(corruption)))
    places = generator.permutation(source.count)[:count]
    frames, labels = source.read(corruption, severity, places, seed)
    return Segment(corruption, frames, labels)


def _checked_names(corruptions: Sequence[str]) -> tuple[str, ...]:
    names = (corruptions,) if isinstance(corruptions, str) else tuple(corruptions)
    for name in names:
        check_corruption(name)
    repeated = [name for name in names if names.count(name) > 1]
    if repeated:
        raise UsageError(f"corruption {repeated[0]} is named {names.count(repeated[0])} times; name each once")
    if not names:
        raise UsageError(f"no corruption is named; known: {', '.join(CORRUPTIONS)}")
    return names


def _checked_count(wanted: int | None, there: int, what: str) -> int:
    if wanted is None:
        return there
    if not 1 <= wanted <= there:
        raise UsageError(f"{wanted} frames asked for: there are {there} {what}, so 1 to {there}")
    return wanted


def _check_seed(seed: int) -> None:
    if seed < 0:
        raise UsageError(f"seed {seed}: it must not be negative")
