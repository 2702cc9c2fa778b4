"""The kinds of output that a configuration can name, `[[sink]]` by `[[sink]]`.

A new kind is a file of this folder with its options, a dataclass on top of `SinkOptions`, and a `KIND`, and its line in
the table here. Nothing of a kind is imported before somebody names it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Annotated, Any

from ecotta_rt.files.fields import Doc, Limit, OneOf
from ecotta_rt.sinks.context import SinkContext
from ecotta_rt.sinks.event_fields import EVENT_NAMES
from ecotta_rt.sinks.sink import Sink

__all__ = ["KINDS", "STANDARD_OUTPUT", "SinkKind", "SinkOptions", "sink_kind"]

_MODULES = {
    "json-lines": "json_lines",
    "csv": "csv_lines",
    "socket": "unix_socket",
    "mqtt": "mqtt",
    "webhook": "webhook",
    "apprise": "apprise_sink",
}

KINDS = tuple(_MODULES)
"""Their names, as a configuration has them after `kind =`."""

STANDARD_OUTPUT = "/dev/stdout"


@dataclass(frozen=True)
class SinkOptions:
    """What can be said of every output."""

    name: Annotated[str | None, Doc("What messages call it. Without it: its kind.", '"log"')] = None
    events: Annotated[
        tuple[Annotated[str, OneOf(EVENT_NAMES)], ...],
        Doc("Which events it gets; empty: all.", '["answer", "camera-lost"]'),
    ] = ()
    cameras: Annotated[
        tuple[str, ...],
        Doc("Of which cameras; empty: all. What is of no camera comes in any case.", '["door"]'),
    ] = ()
    queue: Annotated[int, Limit(1, 100_000), Doc("Events that may wait for it; of more the oldest are dropped.")] = 256

    @property
    def writes(self) -> tuple[str, ...]:
        """Paths that are its own: what it writes, then what that is called when it is put aside."""
        return ()


@dataclass(frozen=True)
class SinkKind:
    """A kind of output.

    Attributes:
        name: What a configuration calls it.
        options: A frozen dataclass on top of `SinkOptions`, read by `files/fields.py`.
        opens: Makes a sink from options, the output's name and what it is opened with. What it raises is not the end:
            it is told, and tried again later.
        checks: Says before the start what no later try would mend, given options and name: a missing package, a folder
            that is none. Raises an error of ours; opens and changes nothing.
        asks: The same, where it takes seconds: for who asks for it, not for each start.
        reaches_people: Whether each message goes out by itself, so that one may be sent beside a daemon that runs.
    """

    name: str
    options: type[SinkOptions]
    opens: Callable[[Any, str, SinkContext], Sink]
    checks: Callable[[Any, str], None] = lambda options, name: None
    asks: Callable[[Any, str], None] = lambda options, name: None
    reaches_people: bool = False


def sink_kind(name: str) -> SinkKind:
    """The kind of this name.

    Raises:
        KeyError: It is not among `KINDS`.
    """
    kind: SinkKind = import_module(f"ecotta_rt.sinks.{_MODULES[name]}").KIND
    return kind
