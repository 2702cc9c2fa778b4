"""Answers, refusals and the guard's steps as JSON, one object a line."""

import json
import math
import select
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TextIO

from ecotta_rt.errors import TransferError
from ecotta_rt.events import Answer, Event, GuardStep, Refusal
from ecotta_rt.files.names import readable_name
from ecotta_rt.files.output import check_output, open_stream
from ecotta_rt.sinks.sink import SinkPlug

__all__ = ["JSON_LINES", "JsonLines", "json_lines_file"]

_LOOK_EVERY_S = 0.5  # for a reader that hangs; whether the run is to end is looked for in between


class JsonLines:
    """One JSON object a line, each there at once.

    Args:
        file: Where to.
        name: For messages.
        stopping: Whether the run is to end. A reader that takes nothing is waited for until then.
        close: Closes the file; by default it stays open.

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
    ) -> None:
        self._file = file
        self._name = name
        self._stopping = stopping if _is_open_file(file) else None
        self.close = close

    def take(self, event: Event) -> None:
        fields = _fields(event)
        if fields and not self._file.closed:
            self._write(fields)

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


JSON_LINES = SinkPlug(
    shown="FILE",
    recognises=lambda text: "://" not in text,
    opens=json_lines_file,
    checks=lambda option, text, source: check_output(option, text, source),
)


def _fields(event: Event) -> dict[str, Any]:
    """Of a line, in order; what is not known is left out. Empty for events that give no line."""
    match event:
        case Answer():
            fields = {**vars(event), "name": readable_name(event.name)}
        case Refusal():
            fields = {"frame": event.index, "name": readable_name(event.name), "refused": event.why}
        case GuardStep():
            fields = {"event": "guard", "from": str(event.before), "to": str(event.level), "why": event.why}
            measured = ("usage_bytes", "limit_bytes", "available_bytes", "temperature_c", "frame")
            fields |= {name: getattr(event, name) for name in measured}
        case _:
            return {}
    return {
        key: _number(value) if isinstance(value, float) else value for key, value in fields.items() if value is not None
    }


def _is_open_file(file: TextIO) -> bool:
    """Whether there is something below it that one can wait for; nobody waits for a text in memory."""
    try:
        return file.fileno() >= 0
    except OSError:
        return False


def _number(value: float) -> float | None:
    # JSON has no NaN; a network that has diverged has.
    return round(value, 6) if math.isfinite(value) else None
