"""Events as JSON, one object a line."""

import json
from collections.abc import Callable, Collection
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TextIO

from ecotta_rt.events import Event
from ecotta_rt.files.output import check_output, open_stream
from ecotta_rt.sinks.context import SinkContext
from ecotta_rt.sinks.event_fields import event_fields, event_name
from ecotta_rt.sinks.kinds import SinkKind
from ecotta_rt.sinks.lines import LineOptions, LineStream, check_lines, open_lines
from ecotta_rt.sinks.sink import Sink, SinkPlug

__all__ = [
    "JSON_LINES",
    "KIND",
    "RUN_EVENTS",
    "JsonLines",
    "JsonLinesOptions",
    "json_line",
    "json_lines_file",
    "open_json_lines",
]

# Of events that are stamped, and of those that are not.
_BEGINS = (b'{"time": "', b'{"frame": ', b'{"event": "')

RUN_EVENTS = ("answer", "refused", "guard", "camera-lost", "camera-back")
"""What `ecotta run` has a line for: what it says of its frames. The rest it tells on standard error."""


def json_line(event: Event) -> str:
    """An event, bare or stamped, as an object of JSON on one line; empty where it gives none."""
    fields = event_fields(event)
    return json.dumps(fields) if fields else ""


class JsonLines(LineStream):
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
        wanted = frozenset(events)
        super().__init__(
            file, lambda event: json_line(event) if event_name(event) in wanted else "", name, stopping, close
        )


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
class JsonLinesOptions(LineOptions):
    """JSON lines in a file or on standard output."""


def open_json_lines(options: JsonLinesOptions, name: str, context: SinkContext) -> Sink:
    """A sink of a daemon; unlike one of `ecotta run` it appends to its file."""
    return open_lines(options, context, json_line, _BEGINS)


KIND = SinkKind("json-lines", JsonLinesOptions, open_json_lines, partial(check_lines, _BEGINS))

JSON_LINES = SinkPlug(
    shown="FILE",
    recognises=lambda text: "://" not in text,
    opens=json_lines_file,
    checks=lambda option, text, source: check_output(option, text, source),
    stamped=True,
)
