"""Boards of a fleet for measure_fleet.py: which pictures each sees, what it learns from them, and how a state does.

The test images are divided once for all seeds: some are only tested on, and boards see only others. A seed chooses
among either. So a state of one seed can be tried on the test images of another. What is chosen by measurement is chosen
without those that are tested on, and on corruptions that are not among the 15 of the test: see `choosing`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ecotta_rt import AdaptState, Runtime
from ecotta_rt.data.image_sets import ImageSet, find_image_set
from ecotta_rt.fleet.shared import shared
from other_corruptions import OTHER_CORRUPTIONS, corrupt_otherwise

__all__ = ["CHOOSING", "CLEAN", "DOMAINS", "KINDS", "SEVERITY", "WAYS", "Board", "Sizes", "Trial"]

CLEAN, SEVERITY = "clean", 5
WAYS = ("follow", "learn")
"""What boards do: by default the statistics follow the frames; with `learn` the parameters move, too."""

PIXEL_SEED, DIVISION_SEED = 0, 2026
TESTED_ON = 1000

Frames, Labels, Places = NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64]


@dataclass(frozen=True)
class Board:
    """A board and its place.

    Attributes:
        name: Its own.
        domain: The corruption of all it sees.
    """

    name: str
    domain: str


DOMAINS = ("gaussian_noise", "motion_blur", "fog", "contrast", "jpeg_compression")
"""One of each family of corruptions, and fog: chosen before anything was measured."""

KINDS = {
    "noise": (
        Board("gaussian_noise", "gaussian_noise"),
        Board("shot_noise", "shot_noise"),
        Board("impulse_noise", "impulse_noise"),
        Board("gaussian_noise-2", "gaussian_noise"),
    ),
    "veiled": (
        Board("fog", "fog"),
        Board("contrast", "contrast"),
        Board("fog-2", "fog"),
        Board("contrast-2", "contrast"),
    ),
}
"""Boards in two kinds of place."""

BOARDS = tuple(dict.fromkeys([*(Board(name, name) for name in DOMAINS), *KINDS["noise"], *KINDS["veiled"]]))

CHOOSING = tuple(Board(name, name) for name in OTHER_CORRUPTIONS)
"""Boards in other corruptions than those of the test."""


@dataclass(frozen=True)
class Sizes:
    """Frames, each number of a board or a domain.

    Attributes:
        stream: That a board adapts to.
        held: That a state is tried on while it is held.
        start: That a board sees which starts at a state and goes on adapting.
    """

    stream: int
    held: int
    start: int


class Trial:
    """One seed and one way of adapting.

    Args:
        bundle: The network of all boards.
        data: The binary version of CIFAR-10.
        work: Folder for corrupted pictures and the boards' states; what is there is not made again.
        way: One of `WAYS`.
        seed: Of which pictures are seen where.
        sizes: How many.
        choosing: Have the boards of `CHOOSING`, and test images that are none of the test's.
    """

    def __init__(
        self, bundle: Path, data: Path, work: Path, way: str, seed: int, sizes: Sizes, choosing: bool = False
    ) -> None:
        self.way, self.seed, self.sizes = way, seed, sizes
        self._bundle, self._work = bundle, work
        self._folder = work / ("choosing" if choosing else "states") / way
        self._images: ImageSet = find_image_set(str(data), work / "pictures")
        division = np.random.default_rng(DIVISION_SEED).permutation(self._images.count)
        generator = np.random.default_rng(seed)
        boards = CHOOSING if choosing else BOARDS
        division = division[TESTED_ON:] if choosing else division
        tested, seen = (generator.permutation(part) for part in np.split(division, [TESTED_ON]))
        if sizes.held + sizes.start > len(tested) or sizes.stream * len(boards) > len(seen):
            raise SystemExit(f"{self._images.count} test images are too few for {sizes}")
        self._held, self._start = tested[: sizes.held], tested[sizes.held : sizes.held + sizes.start]
        streams = np.split(seen[: sizes.stream * len(boards)], len(boards))
        self._streams = dict(zip(boards, streams, strict=True))
        self._of_source: dict[str, NDArray[np.bool_]] = {}
        self._adapting: Runtime | None = None
        self._holding: Runtime | None = None

    @property
    def source(self) -> AdaptState:
        """The bundle's own state."""
        runtime = self._held_runtime()
        runtime.reset()
        return runtime.state

    def board_state(self, board: Board) -> AdaptState:
        """What a board gives away after its stream."""
        return self._adapted(board.name, [board])

    def joint_state(self, boards: Sequence[Board]) -> AdaptState:
        """That of one board that has seen the streams of all, frame by frame in turn: nobody can merge better."""
        return self._adapted("joint", boards)

    def path(self, name: str) -> Path:
        """Where a state of this trial lies."""
        return self._folder / str(self.seed) / f"{name}.state.safetensors"

    def held_error(self, state: AdaptState, domain: str) -> float:
        """Wrong answers in percent on the test images of a domain, or clean ones, while nothing moves."""
        return 100 * float(self.held_wrong(state, domain).mean())

    def source_wrong(self, domain: str) -> NDArray[np.bool_]:
        """`held_wrong` of the bundle's own state."""
        if domain not in self._of_source:
            self._of_source[domain] = self.held_wrong(self.source, domain)
        return self._of_source[domain]

    def held_wrong(self, state: AdaptState, domain: str) -> NDArray[np.bool_]:
        """Which answers are wrong, bool `[held]`, on the test images of a domain or clean ones; nothing moves."""
        runtime = self._held_runtime()
        runtime.restore(shared(state))
        frames, labels = self._read(domain, self._held)
        answers = [runtime.predict(frame[None], hold_statistics=True).unfiltered[0].argmax() for frame in frames]
        wrong: NDArray[np.bool_] = np.array(answers) != labels
        return wrong

    def start_wrong(self, state: AdaptState, domain: str) -> NDArray[np.bool_]:
        """Which answers are wrong, bool `[start]`, of a board that starts at a state and goes on adapting."""
        runtime = self._adapting_runtime()
        runtime.restore(shared(state))
        frames, labels = self._read(domain, self._start)
        wrong: NDArray[np.bool_] = np.array([self._answer(runtime, frame) for frame in frames]) != labels
        return wrong

    def _adapted(self, name: str, boards: Sequence[Board]) -> AdaptState:
        path = self.path(name)
        if not path.exists():
            runtime = self._adapting_runtime()
            runtime.reset()
            streams = [self._read(board.domain, self._streams[board])[0] for board in boards]
            for in_turn in zip(*streams, strict=True):
                for frame in in_turn:
                    self._answer(runtime, frame)
            path.parent.mkdir(parents=True, exist_ok=True)
            shared(runtime.state).save(path)
        return AdaptState.load(path)

    def _answer(self, runtime: Runtime, frame: NDArray[np.uint8]) -> int:
        prediction = runtime(frame[None]) if self.way == "learn" else runtime.predict(frame[None])
        return int(prediction.unfiltered[0].argmax())

    def _read(self, domain: str, places: Places) -> tuple[Frames, Labels]:
        labels = self._images.labels[places]
        if domain == CLEAN:
            return self._images.clean(places), labels
        if domain in OTHER_CORRUPTIONS:
            return corrupt_otherwise(self._images.clean(places), domain, PIXEL_SEED), labels
        return self._images.read(domain, SEVERITY, places, PIXEL_SEED)[0], labels

    def _adapting_runtime(self) -> Runtime:
        self._adapting = self._adapting or Runtime.load(self._bundle, adapt=self.way == "learn", threads=1)
        return self._adapting

    def _held_runtime(self) -> Runtime:
        self._holding = self._holding or Runtime.load(self._bundle, adapt=False, threads=1)
        return self._holding
