"""Values that cross borders on the device: what comes in, what goes out, and what both sides call them.

    Source -> Frame -> Runtime -> Prediction -> Loop -> Event (see `ecotta_rt.events`) -> Sink

Nothing here computes; numpy arrays are held, not copied.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["Frame", "Level", "Prediction", "Why"]

Why = Literal["adapted", "uncertain", "not-finite", "off", "damaged"]
"""Why a state moved or stayed as it was:

    adapted      the update was made
    uncertain    no frame had an entropy below the threshold: a zero step
    not-finite   an answer, a gradient or the next state was NaN or infinite: refused, the state is the one before
    off          nobody asked for adaptation
    damaged      a frame of the batch may show damage of its film: neither parameters nor statistics moved
"""


class Level(IntEnum):
    """A rung of the ladder of a run that has to do with less; a higher number does less.

    | rung | a batch is | saves time | saves memory |
    | --- | --- | --- | --- |
    | full | answered and learned from | | |
    | sparse | answered; each n-th is learned from | most of the step | none: a second graph answers |
    | statistics | answered; the statistics follow it, where they follow at all | the step | the graph that learns |
    | inference | answered, frame by frame where the bundle can; the state is held | | the tensors of a batch |
    | drop | not answered: its frames are counted as dropped | everything | all graphs |

    So heat is met with sparse, statistics and drop; lack of memory with statistics, inference and drop. Statistics
    follow in `running` normalisation only.

    >>> str(Level.STATISTICS), Level.DROP > Level.FULL
    ('statistics', True)
    """

    FULL = 0
    SPARSE = 1
    STATISTICS = 2
    INFERENCE = 3
    DROP = 4

    def __str__(self) -> str:
        return self.name.lower()

    @property
    def learns(self) -> bool:
        """Whether the graph that learns is held."""
        return self <= Level.SPARSE


@dataclass(frozen=True, eq=False)
class Frame:
    """One image of a stream.

    Attributes:
        pixels: uint8 `[H, W, 3]`, RGB, or `[H, W]`, grey; of whatever size the source has.
        index: Position in the stream, from 0; dropped frames count.
        time_s: When it was captured, seconds of `time.monotonic`.
        name: What the source calls it: a file, a position in a film.
        label: The true class where the source knows it (a replay), else None.
        damaged: Whether the picture may show damage of its film or stream: answered, and not learned from.
    """

    pixels: NDArray[np.uint8]
    index: int
    time_s: float
    name: str = ""
    label: int | None = None
    damaged: bool = False


@dataclass(frozen=True, eq=False)
class Prediction:
    """What was said of a batch of frames, from before the network learned from them.

    There are two answers to a frame: the network's own, and the one that the filter makes of it and of the frames
    around it. `labels` and `probabilities` are one of them, by default `ecotta_rt.options.DEFAULT_ANSWER`.

    Attributes:
        labels: int64 `[N]`, the most probable class.
        probabilities: float32 `[N, C]`.
        entropy_nats: float32 `[N]`, in [0, ln C]; of the network's own answer.
        kept: bool `[N]`, whose entropy passed the gate.
        adapted: Whether the state moved.
        why: One of `Why`.
        unfiltered: float32 `[N, C]`, the network's own probabilities.
        filtered: float32 `[N, C]`, those after the filter; where nothing is filtered, the same.
        names: Of the classes of `labels`, one a frame; empty where nobody named them.
    """

    labels: NDArray[np.int64]
    probabilities: NDArray[np.float32]
    entropy_nats: NDArray[np.float32]
    kept: NDArray[np.bool_]
    adapted: bool
    why: Why
    unfiltered: NDArray[np.float32]
    filtered: NDArray[np.float32]
    names: tuple[str, ...] = ()
