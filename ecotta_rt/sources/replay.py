"""Play images whose classes are known, so that a run can say how often it was wrong.

A folder holds corrupted images (`labels.npy` and NAME.npy), or clean ones (`test_batch.bin`): see `files/cifar.py`.
"""

from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ecotta_rt.errors import InputFileError, UsageError
from ecotta_rt.events import Item
from ecotta_rt.files.cifar import BINARIES, LABELS, check_labels, corruptions_in, map_binary, map_corruption
from ecotta_rt.machine.clock import Clock, SystemClock
from ecotta_rt.records import Frame
from ecotta_rt.sources.source import SourcePlug, SourceRequest

__all__ = ["REPLAY", "CifarReplay"]

_CIFAR_10 = BINARIES[0]
_PREFIX = "replay:"


@dataclass(frozen=True, eq=False)
class _Part:
    name: str
    frames: NDArray[np.uint8]  # [N, 32, 32, 3], mapped
    labels: NDArray[np.integer]  # [N]


class CifarReplay:
    """Labelled frames from a folder, one after the other.

    Args:
        folder: In one of the two layouts.
        corruption: Name of a .npy file without its suffix; where None, all of them in alphabetical order.
        severity: 1 to 5, that fifth of each file; where None, the whole file.
        classes: Labels must be below it; where None, any are taken.
        clock: Dates the frames.

    Raises:
        InputFileError: A file is missing, truncated, of another shape or dtype, or has labels out of range.
        UsageError: A severity out of range, or a corruption asked of clean images.
    """

    dropped = 0

    def __init__(
        self,
        folder: str | Path,
        corruption: str | None = None,
        severity: int | None = None,
        *,
        classes: int | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._clock = clock or SystemClock()
        self._closed = False
        self._parts = _open(Path(folder), corruption, severity)
        for part in self._parts:
            check_labels(Path(folder), part.labels, classes)

    def __iter__(self) -> Generator[Item, None, None]:
        index = 0
        for part in self._parts:
            for position, (frame, label) in enumerate(zip(part.frames, part.labels, strict=True)):
                if self._closed:
                    return
                yield Frame(np.array(frame), index, self._clock.now_s(), f"{part.name}[{position}]", int(label))
                index += 1

    def close(self) -> None:
        self._closed = True


def _open(folder: Path, corruption: str | None, severity: int | None) -> list[_Part]:
    if (folder / LABELS).is_file():
        names = [corruption] if corruption else corruptions_in(folder)
        if not names:
            raise InputFileError(f"{folder}: {LABELS} and no frames; expected files such as fog.npy beside it")
        at = "" if severity is None else f"-{severity}"
        return [_Part(f"{name}{at}", *map_corruption(folder, name, severity)) for name in names]
    path = folder / _CIFAR_10.test
    if path.is_file():
        if corruption is not None:
            raise UsageError(f"{folder} holds the clean images of {path.name}, not {corruption!r}; leave it out")
        return [_Part(path.stem, *map_binary(path, _CIFAR_10))]
    raise InputFileError(f"{folder}: neither {LABELS} (CIFAR-10-C) nor {path.name} (CIFAR-10, binary) is in it")


def _named(text: str, request: SourceRequest) -> CifarReplay:
    folder, _, rest = text.removeprefix(_PREFIX).partition(":")
    corruption, _, severity = rest.partition(":")
    if not folder or not ((severity.isascii() and severity.isdigit()) or not severity):
        raise UsageError(f"{text}: write replay:FOLDER, replay:FOLDER:fog, or replay:FOLDER:fog:5")
    return CifarReplay(folder, corruption or None, int(severity) if severity else None, classes=request.classes)


REPLAY = SourcePlug(shown="replay:FOLDER", recognises=lambda text: text.startswith(_PREFIX), opens=_named)
