"""What a run has come to so far, in numbers and in a line."""

from collections import Counter
from dataclasses import dataclass, field

from ecotta_rt.events import Answer, BatchAnswered, Dropped, Event, EventsDropped, GuardStep, Refusal, StreamEnded
from ecotta_rt.records import Level

__all__ = ["Tally"]


@dataclass
class Tally:
    """Counts of a run so far.

    Attributes:
        frames: Frames answered.
        refused: Frames that could not be used.
        last_refusal: Why the last of them could not.
        damaged: Frames answered that may show damage of their film; nothing was learned from their batches.
        dropped: Frames that a newer one replaced, or that came while the guard let none in.
        offered: Batches given to learn from.
        uncertain: Of those, batches without a frame certain enough to learn from.
        adapted: Batches that moved the state's parameters.
        labelled: Answered frames whose class the source knows.
        correct: Those of them answered with that class.
        unfiltered_correct: Those whose unfiltered answer is that class.
        filtered_correct: The same of the filtered one.
        latency_ms: Sum over the answered frames.
        levels: Frames answered on each level of the guard's ladder; on `drop`, frames dropped there.
        last_step: The guard's last step, as far as it made one.
        unheard: Events that were dropped before a sink that was too slow.
    """

    frames: int = 0
    refused: int = 0
    last_refusal: str = ""
    damaged: int = 0
    dropped: int = 0
    offered: int = 0
    uncertain: int = 0
    adapted: int = 0
    labelled: int = 0
    correct: int = 0
    unfiltered_correct: int = 0
    filtered_correct: int = 0
    latency_ms: float = 0.0
    levels: Counter[Level] = field(default_factory=Counter)
    last_step: GuardStep | None = None
    unheard: int = 0

    def take(self, event: Event) -> None:
        match event:
            case Answer():
                self._count(event)
            case BatchAnswered():
                self.levels[event.level] += event.frames
                self.damaged += event.damaged
                self.offered += event.offered
                self.uncertain += event.offered and event.why == "uncertain"
                self.adapted += event.adapted
            case Refusal():
                self.refused += 1
                self.last_refusal = f"{event.name}: {event.why}"
            case Dropped():
                self.levels[Level.DROP] += 1
                self.dropped = event.dropped
            case GuardStep():
                self.last_step = event
            case EventsDropped():
                self.unheard += event.count
            case StreamEnded():
                self.dropped = event.dropped

    def close(self) -> None:
        pass

    def _count(self, answer: Answer) -> None:
        self.frames += 1
        self.dropped = answer.dropped
        self.latency_ms += answer.latency_ms
        self.labelled += answer.correct is not None
        self.correct += bool(answer.correct)
        if answer.truth is not None:
            self.unfiltered_correct += answer.unfiltered_label == answer.truth
            self.filtered_correct += answer.filtered_label == answer.truth

    def _error(self, correct: int) -> str:
        return f"{100 * (1 - correct / self.labelled):.1f}"

    def __str__(self) -> str:
        text = f"{self.frames} frames, {self.dropped} dropped, {self.refused} refused, {self.adapted} updates"
        if self.frames:
            text += f", mean latency {self.latency_ms / self.frames:.1f} ms"
        if self.damaged:
            text += f", {self.damaged} damaged and not learned from"
        if self.labelled:
            text += f", error {self._error(self.correct)} %"
            if self.unfiltered_correct != self.filtered_correct:
                unfiltered, filtered = self._error(self.unfiltered_correct), self._error(self.filtered_correct)
                text += f" (unfiltered {unfiltered} %, filtered {filtered} %)"
        lowered = [f"{self.levels[level]} at {level}" for level in sorted(self.levels) if level != Level.FULL]
        text = ", ".join([text, *lowered])
        if self.unheard:
            text += f", {self.unheard} events dropped before a sink that was too slow"
        if self.uncertain and self.uncertain == self.offered:
            text += (
                "; nothing was learned: no frame was certain enough, so look whether these frames are of the kind and "
                "the classes that the network was trained on, and whether it gives logits"
            )
        return text
