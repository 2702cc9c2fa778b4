"""Sets without labels: pictures as they lie in a folder, or frames whose labels are not to be used."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ecotta_rt.bundle import FrameSpec
from ecotta_rt.data.decoding import DecodeCallback, decode_pictures
from ecotta_rt.data.labelled import SourceData, Unlabelled, chosen, common_size, made_to_fit

__all__ = ["UnlabelledArrays", "UnlabelledPictures"]


class UnlabelledPictures:
    """Pictures without classes.

    Args:
        files: Where they are; see `find_pictures`.
        classes: What the network calls its outputs; empty where nobody says.
        count: How many to use, chosen at random; None: all.
        seed: Of what is chosen.

    Raises:
        UsageError: A count out of range.
    """

    def __init__(
        self, files: Sequence[Path], classes: Sequence[str] = (), *, count: int | None = None, seed: int = 0
    ) -> None:
        self.classes = tuple(classes)
        self._files = tuple(files[place] for place in chosen(len(files), count, seed))
        self.count = len(self._files)

    def common_size(self) -> tuple[int, int]:
        return common_size(self._files)

    def frames(self, frame: FrameSpec, store: Path, report: DecodeCallback | None = None) -> SourceData:
        decoded = decode_pictures(self._files, frame, store, report)
        return SourceData(Unlabelled(decoded.frames), left_out=decoded.left_out)


class UnlabelledArrays:
    """Frames that are in memory already, uint8 `[N, H, W, C]`, and what the network calls its outputs."""

    def __init__(self, frames: NDArray[np.uint8], classes: Sequence[str] = ()) -> None:
        self.classes, self.count = tuple(classes), len(frames)
        self._frames = frames

    def common_size(self) -> tuple[int, int]:
        height, width = self._frames.shape[1:3]
        return height, width

    def frames(self, frame: FrameSpec, store: Path, report: DecodeCallback | None = None) -> SourceData:
        return SourceData(Unlabelled(made_to_fit(self._frames, frame)))
