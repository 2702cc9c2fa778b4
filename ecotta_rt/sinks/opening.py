"""From what a user writes to a sink of events."""

from collections.abc import Callable

from ecotta_rt.errors import UsageError
from ecotta_rt.messages import mask
from ecotta_rt.plugs import plug_for
from ecotta_rt.sinks.json_lines import JSON_LINES
from ecotta_rt.sinks.sink import Sink, SinkPlug
from ecotta_rt.sinks.stamping import Stamping

__all__ = ["PLUGS", "check_sink", "open_sink"]

PLUGS = (JSON_LINES,)
"""Asked in this order; a new sink is a file and its line here, or an entry point of the group `ecotta_rt.sinks`."""


def open_sink(text: str, stopping: Callable[[], bool]) -> Sink:
    """Open a sink by its name.

    Args:
        text: A file, or what an installed plug recognises.
        stopping: Whether the run is to end.

    Raises:
        UsageError: It is none of these.
        TransferError: It cannot be opened.
        Unavailable: An installed plug is broken.
    """
    plug = _plug(text)
    sink = plug.opens(text, stopping)
    return Stamping(sink) if plug.stamped else sink


def check_sink(option: str, text: str, source: str) -> None:
    """Say now what would keep `open_sink` from opening it later; raises the same errors.

    Args:
        option: Who named it, for messages.
        text: As for `open_sink`.
        source: What the run reads, and must not replace.
    """
    _plug(text).checks(option, text, source)


def _plug(text: str) -> SinkPlug:
    plug = plug_for(text, PLUGS, SinkPlug, "ecotta_rt.sinks")
    if plug is None:
        known = " or ".join(plug.shown for plug in PLUGS)
        raise UsageError(f"{mask(text)} is no sink we know; a sink is {known}")
    return plug
