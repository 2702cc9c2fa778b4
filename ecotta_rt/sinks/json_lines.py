"""Events as JSON, one object a line."""

import json
import select
from collections.abc import Callable, Collection
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from ecotta_rt.errors import TransferError
from ecotta_rt.events import Event
from ecotta_rt.files.output import check_output, open_stream
from ecotta_rt.messages import own_output
from ecotta_rt.sinks.context import SinkContext
from ecotta_rt.sinks.event_fields import EVENT_NAMES, event_fields, event_name
from ecotta_rt.sinks.kinds import SinkKind, SinkOptions
from ecotta_rt.sinks.sink import SinkPlug

__all__ = ["JSON_LINES", "KIND", "RUN_EVENTS", "JsonLines", "JsonLinesOptions", "json_lines_file", "open_json_lines"]

RUN_EVENTS = ("answer", "refused", "guard", "camera-lost", "camera-back")
"""What `ecotta run` has a line for: what it says of its frames. The rest it tells on standard error."""

_LOOK_EVERY_S = 0.5  # for a reader that hangs; whether the run is to end is looked for in between


class JsonLines:
    """One JSON object a line, each there at once.

    Args:
        file: Where to.
        name: For messages.
        stopping: Whether the run is to end. A reader that takes nothing is waited for until then.
        close: Closes the file; by default it stays open.
        events: Names of those that give a line.

    Raises:
        BrokenPipeError: From `take`: nobody reads any more.
        TransferError: From `take`: it cannot be written, the disk may be full.
    """

    def __init__(
        self,
        file: TextIO,
        name: str = "standard output",
        stopping: Callable[[], bool] | None = None,
        close: Callable[[], None] = lambda: None,
        events: Collection[str] = RUN_EVENTS,
    ) -> None:
        self._file = file
        self._name = name
        self._stopping = stopping if _is_open_file(file) else None
        self._events = frozenset(events)
        self.close = close

    def take(self, event: Event) -> None:
        if event_name(event) in self._events and not self._file.closed:
            self._write(event_fields(event))

    def _write(self, fields: dict[str, Any]) -> None:
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


def json_lines_file(path: str | Path, stopping: Callable[[], bool] | None = None) -> JsonLines:
    """A sink into a file, which is replaced; a pipe, a terminal or another stream is written to.

    Args:
        path: The file.
        stopping: As for `JsonLines`.

    Raises:
        UsageError, TransferError: It cannot be opened; see `open_stream`.
    """
    stack = ExitStack()
    return JsonLines(stack.enter_context(open_stream(Path(path))), str(path), stopping, stack.close)


@dataclass(frozen=True)
class JsonLinesOptions(SinkOptions):
    """JSON lines on standard output."""


def open_json_lines(options: JsonLinesOptions, name: str, context: SinkContext) -> JsonLines:
    """A sink onto standard output, which has it for itself: what libraries print there goes to standard error.

    Raises:
        TransferError: From its `take`: nobody reads, or it cannot be written.
    """
    stack = ExitStack()
    file = stack.enter_context(own_output())
    return JsonLines(file, "standard output", context.stopping, stack.close, EVENT_NAMES)


KIND = SinkKind("json-lines", JsonLinesOptions, open_json_lines)

JSON_LINES = SinkPlug(
    shown="FILE",
    recognises=lambda text: "://" not in text,
    opens=json_lines_file,
    checks=lambda option, text, source: check_output(option, text, source),
)


def _is_open_file(file: TextIO) -> bool:
    """Whether there is something below it that one can wait for; nobody waits for a text in memory."""
    try:
        return file.fileno() >= 0
    except OSError:
        return False
