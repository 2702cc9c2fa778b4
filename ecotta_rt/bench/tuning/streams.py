"""The two streams that settings are tried on: classes at random, and one class after another for a while.

Both come to each corruption twice, so that a memory of places has something to remember. Runs of one class are of
25 frames, whatever the number of classes: with a few frames a class sorting would leave no runs at all.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ecotta_rt.bench.tuning.pictures import Pictures
from ecotta_rt.bundle import FrameSpec
from ecotta_rt.data.corruptions import SMALLEST_SIDE
from ecotta_rt.data.corruptions.any_shape import corrupt_any
from ecotta_rt.errors import InputFileError, UsageError

__all__ = ["ORDERS", "RUN", "Played", "make_streams", "require_corruptible"]

Frames = NDArray[np.uint8]
Places = NDArray[np.int64]

ORDERS = ("shuffled", "in runs")
RUN = 25
"""Frames of one class that follow each other in the second order."""

_VISITS = 2
_DRAWS = 32  # part of a generator's seed: see `ecotta_rt.bench.streams.protocols`


@dataclass(frozen=True, eq=False)
class Played:
    """A stream.

    Attributes:
        order: One of `ORDERS`.
        frames: uint8 `[N, H, W, C]`, corrupted.
        labels: int64 `[N]`.
    """

    order: str
    frames: Frames
    labels: NDArray[np.int64]


def require_corruptible(frame: FrameSpec) -> None:
    """Raise `UsageError` where frames are too small for the corruptions."""
    if max(frame.size) < SMALLEST_SIDE:
        raise UsageError(
            f"frames of {frame.height} x {frame.width} pixels are too small to be corrupted: at least "
            f"{SMALLEST_SIDE} are needed"
        )


def make_streams(
    pictures: Pictures,
    frame: FrameSpec,
    corruptions: Sequence[str],
    count: int,
    *,
    severity: int,
    seed: int,
    store: Path,
    say: Callable[[int, int, str], None],
) -> tuple[Played, ...]:
    """Make both streams.

    Args:
        pictures: To show.
        frame: What the network takes.
        corruptions: Names.
        count: Frames of each, in each order.
        severity: 1 to 5.
        seed: Of all that is drawn.
        store: A new file for decoded pictures.
        say: Hears how much is done, of how much, and what.

    Raises:
        InputFileError: Too few pictures can be decoded.
    """
    orders = (_shuffled, _in_runs)
    shown = [
        order(pictures.labels, count * len(corruptions), np.random.default_rng((seed, _DRAWS, number)))
        for number, order in enumerate(orders)
    ]
    places = np.unique(np.concatenate(shown))
    clean, there = pictures.frames(places, frame, store, lambda done, of: say(done, of, "decoding pictures"))
    if there.sum() < len(places) / 2:
        raise InputFileError(f"{len(places) - there.sum()} of {len(places)} pictures cannot be decoded; mend them")
    spans = [name for _ in range(_VISITS) for name in corruptions]
    streams = []
    for order, images in zip(ORDERS, shown, strict=True):
        pieces, labels = [], []
        for number, (name, piece) in enumerate(zip(spans, np.array_split(images, len(spans)), strict=True)):
            say(number, len(spans), f"corrupting: {name}")
            at = np.searchsorted(places, piece)
            at = at[there[at]]
            pixels = clean[(np.cumsum(there) - 1)[at]]
            pieces.append(corrupt_any(pixels, name, severity=severity, seed=seed, indices=places[at]))
            labels.append(pictures.labels[places[at]])
        streams.append(Played(order, np.concatenate(pieces), np.concatenate(labels)))
    return tuple(streams)


def _shuffled(labels: NDArray[np.int64], count: int, generator: np.random.Generator) -> Places:
    rounds = -(-count // len(labels))
    return np.concatenate([generator.permutation(len(labels)) for _ in range(rounds)])[:count]


def _in_runs(labels: NDArray[np.int64], count: int, generator: np.random.Generator) -> Places:
    present, runs = np.unique(labels), -(-count // RUN)
    turns = np.concatenate([generator.permutation(present) for _ in range(-(-runs // len(present)))])[:runs]
    of_class = {label: np.flatnonzero(labels == label) for label in np.unique(turns)}
    drawn = [generator.choice(of_class[label], RUN, replace=len(of_class[label]) < RUN) for label in turns]
    return np.concatenate(drawn)[:count]
