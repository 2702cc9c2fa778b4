"""Values that cross borders on the device: what comes in, what goes out, and what happens in between.

    Source -> Frame -> Runtime -> Prediction -> Loop -> Event -> Sink

Nothing here computes; numpy arrays are held, not copied.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Literal

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Answer",
    "BatchAnswered",
    "Dropped",
    "Event",
    "EventsDropped",
    "Frame",
    "GuardStep",
    "Item",
    "Level",
    "Prediction",
    "Reason",
    "Refusal",
    "SourceBack",
    "SourceLost",
    "StateNotSaved",
    "StateSaved",
    "StreamEnded",
    "Why",
]

_MIB = 2**20

Why = Literal["adapted", "uncertain", "not-finite", "off", "damaged"]
"""Why a state moved or stayed as it was:

    adapted      the update was made
    uncertain    no frame had an entropy below the threshold: a zero step
    not-finite   an answer, a gradient or the next state was NaN or infinite: refused, the state is the one before
    off          nobody asked for adaptation
    damaged      a frame of the batch may show damage of its film: neither parameters nor statistics moved
"""

Reason = Literal["limit", "control-group", "available", "temperature", "throttled", "recovered", "cannot-load"]
"""Why the guard left a level:

    limit           this process's memory against the limit it was given
    control-group   the control group's usage against its limit
    available       the machine's available memory against the floor
    temperature     the hottest zone against the ceiling
    throttled       the firmware slows the processor down
    recovered       nothing asked for a lower level any more: one up
    cannot-load     the graphs of the level could not be opened
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
    """What the network said of a batch of frames, from before it learned from them.

    Attributes:
        labels: int64 `[N]`, the most probable class.
        probabilities: float32 `[N, C]`.
        entropy_nats: float32 `[N]`, in [0, ln C].
        kept: bool `[N]`, whose entropy passed the gate.
        adapted: Whether the state moved.
        why: One of `Why`.
        names: Of the classes of `labels`, one a frame; empty where nobody named them.
    """

    labels: NDArray[np.int64]
    probabilities: NDArray[np.float32]
    entropy_nats: NDArray[np.float32]
    kept: NDArray[np.bool_]
    adapted: bool
    why: Why
    names: tuple[str, ...] = ()


class Event:
    """Something that happened in a run. Each kind is a frozen dataclass; a sink ignores the kinds it does not know."""


@dataclass(frozen=True)
class Answer(Event):
    """What was said of one frame; the fields of a JSON line, in this order.

    Attributes:
        frame: Its position in the stream, from 0.
        name: What the source calls it.
        label: Name of the most probable class.
        class_index: Number of that class.
        probability: Of that class.
        entropy_nats: Of all classes, in [0, ln C].
        adapted: Whether the network learned from the batch it came in; the answer is from before.
        why: See `ecotta_rt.records.Why`.
        latency_ms: From when it was captured to this answer; so the wait for the rest of its batch is in it.
        dropped: Frames that the source or the guard has dropped so far.
        truth: Name of its true class, where the source knows it.
        correct: Whether the answer is that.
    """

    frame: int
    name: str
    label: str
    class_index: int
    probability: float
    entropy_nats: float
    adapted: bool
    why: Why
    latency_ms: float
    dropped: int
    truth: str | None = None
    correct: bool | None = None


@dataclass(frozen=True)
class BatchAnswered(Event):
    """A batch has been through the network; the answers to its frames follow.

    Attributes:
        frames: How many.
        damaged: How many of them may show damage of their film; then nothing was learned from the batch.
        level: The guard's level on which it was answered.
        offered: Whether it was given to learn from.
        adapted: Whether it moved the parameters.
        why: See `ecotta_rt.records.Why`.
    """

    frames: int
    damaged: int
    level: Level
    offered: bool
    adapted: bool
    why: Why


@dataclass(frozen=True)
class Refusal(Event):
    """A frame that nobody can use; the stream goes on after it. A source gives it in place of the frame.

    It may come before the answers to earlier frames.

    Attributes:
        index: Its position in the stream, from 0.
        name: What the source calls it.
        why: What is wrong with it.
    """

    index: int
    name: str
    why: str


@dataclass(frozen=True)
class SourceLost(Refusal):
    """The source has no frames for now, and tries to get them again; it takes one position in the stream."""


@dataclass(frozen=True)
class SourceBack(Event):
    """A source that was lost gives frames again.

    Attributes:
        frame: Position of the first of them.
        name: What the source calls it.
    """

    frame: int
    name: str


@dataclass(frozen=True)
class Dropped(Event):
    """A frame that was not let in, since the guard is on `Level.DROP`.

    Attributes:
        frame: Its position in the stream.
        name: What the source calls it.
        dropped: Frames that the source or the guard has dropped so far.
    """

    frame: int
    name: str
    dropped: int


@dataclass(frozen=True)
class GuardStep(Event):
    """One step of the guard, or a step that failed: then both levels are the same.

    It may come before the answers to earlier frames. A step down is told before it is made.

    Attributes:
        frame: Position in the stream of the frame before which it was made.
        before: The level left.
        level: The level reached.
        why: One of `Reason`.
        usage_bytes: What counted against the limit; this process's memory where no limit was the reason.
        limit_bytes: The limit that counted, or the one there is.
        available_bytes: The machine's available memory.
        temperature_c: Of the hottest zone.
    """

    frame: int
    before: Level
    level: Level
    why: Reason
    usage_bytes: int | None = None
    limit_bytes: int | None = None
    available_bytes: int | None = None
    temperature_c: float | None = None

    def __str__(self) -> str:
        return f"guard: {self._what()} ({self._because()})"

    def _what(self) -> str:
        return f"stays at {self.level}" if self.before == self.level else f"{self.before} -> {self.level}"

    def _because(self) -> str:
        if self.why == "temperature":
            return f"{self.temperature_c:g} degrees C"
        if self.why == "available" and self.available_bytes is not None:
            return f"available: {self.available_bytes / _MIB:.0f} MiB"
        if self.usage_bytes is None or self.limit_bytes is None:
            return self.why
        return f"{self.why}: {self.usage_bytes / _MIB:.0f} of {self.limit_bytes / _MIB:.0f} MiB"


@dataclass(frozen=True)
class StateSaved(Event):
    """What was learned is on the disk.

    Attributes:
        path: The state's file.
    """

    path: str


@dataclass(frozen=True)
class StateNotSaved(Event):
    """What was learned could not be saved, and the run goes on.

    Attributes:
        path: The state's file.
        why: What failed.
    """

    path: str
    why: str


@dataclass(frozen=True)
class EventsDropped(Event):
    """A sink was too slow, and events were dropped before it.

    Attributes:
        sink: Which, by name.
        count: How many since this was told the last time.
    """

    sink: str
    count: int


@dataclass(frozen=True)
class StreamEnded(Event):
    """The last event of a loop.

    Attributes:
        dropped: Frames that the source or the guard has dropped.
        why: What failed, where it ended with an error, else empty; the loop raises the error after this.
    """

    dropped: int
    why: str = ""


Item = Frame | Refusal
"""What comes out of a source."""
