"""What happens in a run: the loop and some sinks make events, and sinks take them."""

from dataclasses import dataclass
from typing import Literal

from ecotta_rt.records import Frame, Level, Why

__all__ = [
    "AdaptingSet",
    "Alert",
    "Answer",
    "BatchAnswered",
    "DoubtBegan",
    "DoubtEnded",
    "Drift",
    "Dropped",
    "Event",
    "EventsDropped",
    "GuardStep",
    "Item",
    "Reason",
    "Refusal",
    "Reloaded",
    "Signs",
    "SinkBack",
    "SinkFailed",
    "SourceBack",
    "SourceLost",
    "Stamped",
    "StateNotSaved",
    "StateReturned",
    "StateSaved",
    "StreamEnded",
]

_MIB = 2**20

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


class Event:
    """Something that happened in a run. Each kind is a frozen dataclass; a sink ignores the kinds it does not know.

    In all of them `frame` is a position in the stream, from 0; `name` what the source calls it; `path` the state's
    file; `dropped` how many frames the source or the guard has dropped so far; `why` a sentence, unless said otherwise.
    """


@dataclass(frozen=True)
class Answer(Event):
    """What was said of one frame; the fields of a JSON line, in this order.

    Attributes:
        label: Name of the most probable class, of the answer that the run gives: filtered or unfiltered.
        class_index: Number of that class.
        probability: Of that class.
        entropy_nats: Of all classes in the network's own answer, in [0, ln C].
        adapted: Whether the network learned from the batch it came in; the answer is from before.
        why: See `ecotta_rt.records.Why`.
        latency_ms: From when it was captured to this answer; so the wait for the rest of its batch is in it.
        truth: Name of its true class, where the source knows it.
        correct: Whether the answer is that.
        unfiltered_label: Name of the most probable class for the network alone.
        unfiltered_probability: Of that class.
        filtered_label: Name of the most probable class after the filter.
        filtered_probability: Of that class.
        top: The most probable classes of the answer that the run gives and their probabilities, as many as were asked
            for; None where nobody asked.
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
    unfiltered_label: str | None = None
    unfiltered_probability: float | None = None
    filtered_label: str | None = None
    filtered_probability: float | None = None
    top: tuple[tuple[str, float], ...] | None = None


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
        followed: Whether what follows the stream without gradients was free to follow it.
    """

    frames: int
    damaged: int
    level: Level
    offered: bool
    adapted: bool
    why: Why
    followed: bool = False


@dataclass(frozen=True)
class Refusal(Event):
    """A frame that nobody can use; the stream goes on after it. A source gives it in place of the frame.

    It may come before the answers to earlier frames. `index` is its position in the stream, as a frame has it.
    """

    index: int
    name: str
    why: str


@dataclass(frozen=True)
class SourceLost(Refusal):
    """The source has no frames for now, and tries to get them again; it takes one position in the stream."""


@dataclass(frozen=True)
class SourceBack(Event):
    """A source that was lost gives frames again; this is the first of them.

    Attributes:
        lost_s: Seconds since it was lost; None: not known.
    """

    frame: int
    name: str
    lost_s: float | None = None


@dataclass(frozen=True)
class Dropped(Event):
    """A frame that was not let in, since the guard is on `Level.DROP`."""

    frame: int
    name: str
    dropped: int


@dataclass(frozen=True)
class GuardStep(Event):
    """One step of the guard, or a step that failed: then both levels are the same.

    It may come before the answers to earlier frames. A step down is told before it is made.

    Attributes:
        frame: The one before which it was made.
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
        path: The file.
        bytes: How long it is; None: not known.
        why: It was written now, in a few words; None: it was time.
    """

    path: str
    bytes: int | None = None
    why: str | None = None


@dataclass(frozen=True)
class StateNotSaved(Event):
    """What was learned could not be saved, and the run goes on."""

    path: str
    why: str


@dataclass(frozen=True)
class StateReturned(Event):
    """A camera's state was put back: by the owner, or since signs said that it had collapsed.

    Attributes:
        frame: The last one before it.
        to: What was put back: `source`, or the name of a snapshot.
        why: A sentence.
    """

    frame: int
    to: str
    why: str


@dataclass(frozen=True)
class AdaptingSet(Event):
    """Somebody has switched the adaptation of a camera on or off."""

    frame: int
    adapting: bool


@dataclass(frozen=True)
class Signs(Event):
    """What a stream says without labels about whether its answers are still right; told every so often.

    Attributes:
        frame: The last one that is in it.
        frames: How many there have been; the last some hundred count.
        entropy: Mean over the frames of the entropy of the network's own answer by ln C, in [0, 1].
        certain: Share of frames certain enough to learn from, in [0, 1].
        concentration: Sum of squared shares of the answered classes, in [1 / C, 1]; 1: always the same class.
        confidence: Mean probability of the answers given, in [0, 1].
        broken: Share of frames whose answer was no number, in [0, 1].
        distance: Of the statistics from those of the source, in its standard deviations; None: nothing follows.
        disagreement: Share of sampled frames to which the adapted and the frozen network answer differently, in [0, 1];
            None: none was sampled.
        contradiction: Share of them of which the frozen network is certain that it is another class.
        frozen_concentration: As `concentration`, of the frozen network's answers to them.
        expected_error: Share of wrong answers as these signs have it, in [0, 1]; None: the bundle is not calibrated.
    """

    frame: int
    frames: int
    entropy: float
    certain: float
    concentration: float
    confidence: float | None = None
    broken: float | None = None
    distance: float | None = None
    disagreement: float | None = None
    contradiction: float | None = None
    frozen_concentration: float | None = None
    expected_error: float | None = None


@dataclass(frozen=True)
class Drift(Event):
    """The scene has changed.

    Attributes:
        frame: Where it was seen.
        size: How far, in units of what chance does; see `ecotta_rt.adapt.drift`.
        known: Whether the place was met before, and its statistics were recalled.
    """

    frame: int
    size: float
    known: bool = False


@dataclass(frozen=True)
class DoubtBegan(Event):
    """Signs say that the answers may no longer be right; `why` says which, with value and limit."""

    frame: int
    why: str


@dataclass(frozen=True)
class DoubtEnded(Event):
    """The signs are good again.

    Attributes:
        frame: Where.
        lasted_s: Seconds since the doubt began.
    """

    frame: int
    lasted_s: float


@dataclass(frozen=True)
class Alert(Event):
    """A rule of the owner's holds: somebody wants to know.

    Attributes:
        rule: Which, by name.
        why: A sentence for people.
        over: It holds no longer, and this is told since its beginning was.
    """

    rule: str
    why: str
    over: bool = False


@dataclass(frozen=True)
class SinkFailed(Event):
    """A sink cannot take events for now; it is tried again, and what it misses is counted."""

    sink: str
    why: str


@dataclass(frozen=True)
class SinkBack(Event):
    """A sink takes events again.

    Attributes:
        sink: Which, by name.
        missed: Events that it has not been given since it failed.
    """

    sink: str
    missed: int


@dataclass(frozen=True)
class Reloaded(Event):
    """The configuration was read again: what changed, or, where it was refused, why all stays as it was."""

    changed: tuple[str, ...] = ()
    why: str = ""


@dataclass(frozen=True)
class EventsDropped(Event):
    """Events are lost: a sink was too slow, and they were dropped before it, or it had failed at the end.

    Attributes:
        sink: Which, by name.
        count: How many since this was told the last time.
        why: What it failed with last; empty: it was too slow.
    """

    sink: str
    count: int
    why: str = ""


@dataclass(frozen=True)
class StreamEnded(Event):
    """The last event of a stream.

    Attributes:
        dropped: As in all events.
        why: The message of the error that ended it, or that its camera was taken out or stopped; empty: it has come to
            its end.
    """

    dropped: int
    why: str = ""


@dataclass(frozen=True)
class Stamped(Event):
    """An event, and when and where it happened; what outputs are given.

    Attributes:
        event: What happened.
        time_s: When, by the wall clock: seconds since 1970, UTC. Of an answer: when its frame was captured.
        monotonic_s: The same moment, by the clock that dates the frames: it never jumps.
        camera: Of which camera; None: of the whole process, or of a run that has but one.
    """

    event: Event
    time_s: float
    monotonic_s: float
    camera: str | None = None


Item = Frame | Refusal
"""What comes out of a source."""
