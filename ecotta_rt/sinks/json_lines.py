"""Where answers go."""

import json
import math
import select
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TextIO

from ecotta_rt.errors import TransferError
from ecotta_rt.files.names import readable_name
from ecotta_rt.files.output import open_stream
from ecotta_rt.records import Why
from ecotta_rt.runtime.guard import GuardEvent
from ecotta_rt.sources.source import Refusal

__all__ = ["Answer", "JsonLines", "Kept", "Sink", "json_lines_file"]

_LOOK_EVERY_S = 0.5  # for a reader that hangs; whether the run is to end is looked for in between


@dataclass(frozen=True)
class Answer:
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


class Sink(Protocol):
    """Takes what comes out of the loop, frame by frame."""

    def answer(self, answer: Answer) -> None: ...

    def refuse(self, refusal: Refusal) -> None:
        """Take note of a frame that could not be used; it may come before answers to frames before it."""

    def event(self, event: GuardEvent) -> None:
        """Take note of a step of the guard; it may come before answers to frames before it."""


class JsonLines:
    """One JSON object a line, each there at once.

    Args:
        file: Where to; stays open.
        name: For messages.
        stopping: Whether the run is to end. A reader that takes nothing is waited for until then.

    Raises:
        BrokenPipeError: From each method: nobody reads any more.
        TransferError: From each method: it cannot be written, the disk may be full.
    """

    def __init__(self, file: TextIO, name: str = "standard output", stopping: Callable[[], bool] | None = None) -> None:
        self._file = file
        self._name = name
        self._stopping = stopping if _is_open_file(file) else None

    def answer(self, answer: Answer) -> None:
        fields = {key: value for key, value in vars(answer).items() if value is not None}
        fields["name"] = readable_name(answer.name)
        self._write({key: _number(value) if isinstance(value, float) else value for key, value in fields.items()})

    def refuse(self, refusal: Refusal) -> None:
        self._write({"frame": refusal.index, "name": readable_name(refusal.name), "refused": refusal.why})

    def event(self, event: GuardEvent) -> None:
        self._write(event.as_json())

    def _write(self, fields: dict[str, object]) -> None:
        try:
            self._wait_for_reader()
            print(json.dumps(fields), file=self._file, flush=True)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise TransferError(f"{self._name} cannot be written: {error.strerror or error}") from error

    def _wait_for_reader(self) -> None:
        """A write into a full pipe could be ended by nothing but a kill, and what was learned would go with it."""
        while self._stopping is not None and not select.select([], [self._file], [], _LOOK_EVERY_S)[1]:
            if self._stopping():
                raise TransferError(f"{self._name}: its reader takes no more, and the run is to end")


class Kept:
    """A double that keeps everything.

    Attributes:
        answers: In the order they came.
        refusals: In the order they came.
        events: In the order they came.
    """

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.refusals: list[Refusal] = []
        self.events: list[GuardEvent] = []

    def answer(self, answer: Answer) -> None:
        self.answers.append(answer)

    def refuse(self, refusal: Refusal) -> None:
        self.refusals.append(refusal)

    def event(self, event: GuardEvent) -> None:
        self.events.append(event)


@contextmanager
def json_lines_file(path: Path, stopping: Callable[[], bool] | None = None) -> Iterator[JsonLines]:
    """A sink into a file, which is replaced; a pipe, a terminal or another stream is written to.

    Args:
        path: The file.
        stopping: As for `JsonLines`.

    Raises:
        UsageError, TransferError: It cannot be opened; see `open_stream`.
    """
    with open_stream(path) as file:
        yield JsonLines(file, str(path), stopping)


def _is_open_file(file: TextIO) -> bool:
    """Whether there is something below it that one can wait for; nobody waits for a text in memory."""
    try:
        return file.fileno() >= 0
    except OSError:
        return False


def _number(value: float) -> float | None:
    # JSON has no NaN; a network that has diverged has.
    return round(value, 6) if math.isfinite(value) else None
