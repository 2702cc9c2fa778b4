"""What a stream shows when: for each frame its image, corruption and kind; and the spans it is made of."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["CLEAN", "MIXED", "FramePlan", "Kind", "Piece", "Span", "joined"]

CLEAN = "clean"
"""Where a corruption is named: none."""

MIXED = "mixed"
"""Of a span: another one with each frame."""


class Kind(IntEnum):
    """What a frame is. Only the answers to valid ones are counted."""

    VALID = 0
    NOISE = 1
    BLACK = 2
    OTHER = 3


class Span(NamedTuple):
    """Frames `start` to `stop - 1` of a stream.

    Attributes:
        start, stop: Places.
        corruption: Its name, `CLEAN` or `MIXED`.
        severity: 1 to 5; 0 where it is clean.
        visit: How often the stream has come to this corruption, this time included.
        part: What it is called in this protocol, such as `one class`; one name may stand for many spans.
        change: Whether the corruption is another one than before; so it is at the very beginning.
    """

    start: int
    stop: int
    corruption: str
    severity: int
    visit: int
    part: str
    change: bool


class Piece(NamedTuple):
    """A span before its place in the stream is known.

    Attributes:
        images: int64 `[n]`, places in the image set, or in the other set where `kinds` says so.
        corruption: As in `Span`.
        severity: As in `Span`.
        visit: As in `Span`.
        part: As in `Span`.
        kinds: int8 `[n]`, of `Kind`; None: all valid.
        corruptions: Names, one a frame, where the piece is `MIXED`.
    """

    images: NDArray[np.int64]
    corruption: str
    severity: int
    visit: int = 1
    part: str = "all"
    kinds: NDArray[np.int8] | None = None
    corruptions: Sequence[str] | None = None


@dataclass(frozen=True, eq=False)
class FramePlan:
    """All frames of a stream of N.

    Attributes:
        protocol: Its name.
        seed: Of all that was drawn.
        names: Corruptions by number, `CLEAN` the last.
        images: int64 `[N]`, places in the image set; for `Kind.OTHER` in the other set; else 0.
        labels: int64 `[N]`; -1 where a frame is not valid.
        corruptions: int8 `[N]`, numbers of `names`.
        severities: int8 `[N]`, 1 to 5, or 0 for clean frames and garbage.
        kinds: int8 `[N]`, of `Kind`.
        spans: They follow each other without a gap.
    """

    protocol: str
    seed: int
    names: tuple[str, ...]
    images: NDArray[np.int64]
    labels: NDArray[np.int64]
    corruptions: NDArray[np.int8]
    severities: NDArray[np.int8]
    kinds: NDArray[np.int8]
    spans: tuple[Span, ...]

    def __len__(self) -> int:
        return len(self.images)

    @property
    def valid(self) -> NDArray[np.bool_]:
        """Which frames count, bool `[N]`."""
        valid: NDArray[np.bool_] = self.kinds == Kind.VALID
        return valid

    @property
    def distinct_images(self) -> int:
        """How many images of the set are shown: a long stream shows one several times."""
        return len(np.unique(self.images[self.valid]))

    def since_class_change(self) -> NDArray[np.int64]:
        """Valid frames since one of another class was shown, int64 `[valid]`: 0 for the first of a class."""
        labels = self.labels[self.valid]
        places = np.arange(len(labels))
        changed = np.concatenate([[True], labels[1:] != labels[:-1]])
        since: NDArray[np.int64] = places - np.maximum.accumulate(np.where(changed, places, 0))
        return since

    def digest(self) -> str:
        """SHA-256 of all that decides what is shown, in hexadecimal."""
        told = hashlib.sha256(repr((self.protocol, self.names, self.spans)).encode())
        for array in (self.images, self.labels, self.corruptions, self.severities, self.kinds):
            told.update(array.astype("<i8").tobytes())
        return told.hexdigest()


def joined(
    pieces: Sequence[Piece], labels: NDArray[np.int64], corruptions: Sequence[str], protocol: str, seed: int
) -> FramePlan:
    """The plan of pieces that follow each other.

    Args:
        pieces: At least one.
        labels: int64 `[M]`, of the image set.
        corruptions: Names that the pieces use.
        protocol, seed: As in `FramePlan`.
    """
    names = (*corruptions, CLEAN)
    kinds = np.concatenate([np.zeros(len(p.images), np.int8) if p.kinds is None else p.kinds for p in pieces])
    valid = kinds == Kind.VALID
    images = np.concatenate([piece.images for piece in pieces])
    severities = np.concatenate([np.full(len(piece.images), piece.severity, np.int8) for piece in pieces])
    return FramePlan(
        protocol,
        seed,
        names,
        images,
        np.where(valid, labels[np.where(valid, images, 0)], -1),
        np.concatenate([_numbers(piece, names) for piece in pieces]),
        np.where(valid, severities, 0).astype(np.int8),
        kinds,
        tuple(_spans(pieces)),
    )


def _numbers(piece: Piece, names: tuple[str, ...]) -> NDArray[np.int8]:
    if piece.corruptions is not None:
        return np.array([names.index(name) for name in piece.corruptions], np.int8)
    return np.full(len(piece.images), names.index(piece.corruption), np.int8)


def _spans(pieces: Sequence[Piece]) -> list[Span]:
    spans: list[Span] = []
    for piece in pieces:
        start = spans[-1].stop if spans else 0
        change = not spans or spans[-1].corruption != piece.corruption
        about = (piece.corruption, piece.severity, piece.visit, piece.part)
        spans.append(Span(start, start + len(piece.images), *about, change))
    return spans
