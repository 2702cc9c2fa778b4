"""What every source of frames promises."""

from collections.abc import Generator
from dataclasses import dataclass
from typing import Protocol

from ecotta_rt.records import Frame

__all__ = ["MAX_PIXELS", "Item", "Refusal", "Source"]

MAX_PIXELS = 1 << 25
"""Largest picture that is decoded: 33 megapixels take 100 MB. A small file can claim to be far larger."""


@dataclass(frozen=True)
class Refusal:
    """A frame that nobody can use; the stream goes on after it.

    Attributes:
        index: Its position in the stream, from 0.
        name: What the source calls it.
        why: What is wrong with it.
    """

    index: int
    name: str
    why: str


Item = Frame | Refusal
"""What comes out of a source."""


class Source(Protocol):
    """Frames in order, once or again and again.

    Iterating opens what has to be opened and releases it when the iteration ends or is closed. Positions rise from 0;
    a gap means frames that were dropped.

    Attributes:
        dropped: Frames that came and were never handed out, since a newer one was there.
    """

    @property
    def dropped(self) -> int: ...

    def __iter__(self) -> Generator[Item, None, None]: ...

    def close(self) -> None:
        """Say that no more frames are wanted: the iteration ends before its next one.

        Only leaves a note, so it may be called from a signal handler, from another thread, and twice.
        """
