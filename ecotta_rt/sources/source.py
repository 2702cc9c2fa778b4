"""What every source of frames promises."""

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from ecotta_rt.events import Item
from ecotta_rt.machine.clock import Clock
from ecotta_rt.sources.patience import GIVES_UP, Patience

__all__ = ["MAX_PIXELS", "Source", "SourcePlug", "SourceRequest", "Ticking"]

MAX_PIXELS = 1 << 25
"""Largest picture that is decoded: 33 megapixels take 100 MB. A small file can claim to be far larger."""


class Source(Protocol):
    """Frames in order, once or again and again.

    Iterating opens what has to be opened and releases it when the iteration ends or is closed. Positions rise from 0;
    a gap means frames that were dropped. A frame that nobody can use is a `Refusal`, a camera that went away a
    `SourceLost`.

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


@runtime_checkable
class Ticking(Protocol):
    """A source that may wait long for a frame, and says so meanwhile: for a loop that has a guard to ask."""

    def ticking(self, every_s: float) -> Generator[Item | None, None, None]:
        """Iterate, with None after each `every_s` seconds without a frame."""


@dataclass(frozen=True)
class SourceRequest:
    """What a source is asked for beside its name.

    Attributes:
        classes: Classes of the network; labels must be below it. None: not known.
        realtime: Give frames at the rate at which they were taken.
        patience: How long a camera that is away is waited for.
        clock: Dates the frames, and waits; None: the machine's.
    """

    classes: int | None = None
    realtime: bool = False
    patience: Patience = GIVES_UP
    clock: Clock | None = None


@dataclass(frozen=True)
class SourcePlug:
    """A kind of source: which words of the user's are for it, and how it is opened.

    Attributes:
        shown: What users write, for messages.
        recognises: Whether a text is for it; opens nothing.
        opens: Makes the source; raises an error of ours where it cannot.
        live: Frames come whether they are taken or not; of those the newest is handed out and the others are dropped.
        paced: It knows at which rate its frames were taken.
        checks: Opens nothing, and raises an error of ours for what is wrong with a text and no later try would mend:
            an option.
        needs: Opens nothing, and raises `Unavailable` where a package that a text needs is not installed.
    """

    shown: str
    recognises: Callable[[str], bool]
    opens: Callable[[str, SourceRequest], Source]
    live: bool = False
    paced: bool = False
    checks: Callable[[str], object] = lambda text: None
    needs: Callable[[str], object] = lambda text: None
