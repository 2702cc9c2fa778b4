"""From an event to the fields of a line: the one place that says what outputs call things."""

import math
from datetime import UTC, datetime
from typing import Any

from ecotta_rt.events import (
    AdaptingSet,
    Alert,
    Answer,
    DoubtBegan,
    DoubtEnded,
    Drift,
    Event,
    EventsDropped,
    GuardStep,
    Refusal,
    Reloaded,
    Signs,
    SinkBack,
    SinkFailed,
    SourceBack,
    SourceLost,
    Stamped,
    StateNotSaved,
    StateReturned,
    StateSaved,
    StreamEnded,
)
from ecotta_rt.files.names import readable_name

__all__ = ["EVENT_NAMES", "bare", "event_fields", "event_name", "iso_time"]

_NAMES: dict[type[Event], str] = {
    Answer: "answer",
    Refusal: "refused",
    SourceLost: "camera-lost",
    SourceBack: "camera-back",
    GuardStep: "guard",
    Drift: "drift",
    DoubtBegan: "doubt",
    DoubtEnded: "doubt-ended",
    StateSaved: "state-saved",
    StateNotSaved: "state-not-saved",
    StateReturned: "state-returned",
    AdaptingSet: "adapting",
    Alert: "alert",
    SinkFailed: "sink-failed",
    SinkBack: "sink-back",
    EventsDropped: "events-dropped",
    Signs: "signs",
    Reloaded: "reloaded",
    StreamEnded: "ended",
}

EVENT_NAMES = tuple(_NAMES.values())
"""Events that give a line. The two of frames, `answer` and `refused`, are told apart by their fields, not by a name."""

_OF_FRAMES = ("answer", "refused")


def event_name(event: Event) -> str | None:
    """What outputs call an event, bare or stamped; None: it gives no line."""
    return _NAMES.get(type(bare(event)))


def event_fields(event: Event) -> dict[str, Any]:
    """The fields of a line, in order, as JSON has them; what is not known is left out.

    Args:
        event: Bare, or stamped: then time, `monotonic_s` and camera come first.

    Returns:
        Texts, numbers, lists and None for a number that is none (NaN); empty for an event that gives no line.

    >>> event_fields(Stamped(AdaptingSet(7, True), time_s=0.25, monotonic_s=3.0, camera="door"))
    {'time': '1970-01-01T00:00:00.250Z', 'monotonic_s': 3.0, 'camera': 'door', 'event': 'adapting', 'frame': 7, \
'adapting': True}
    """
    name = event_name(event)
    if name is None:
        return {}
    fields = _stamp(event) if isinstance(event, Stamped) else {}
    fields |= {} if name in _OF_FRAMES else {"event": name}
    fields |= _own_fields(bare(event))
    return {key: _plain(value) for key, value in fields.items() if value is not None}


def bare(event: Event) -> Event:
    """The event without its stamp."""
    return event.event if isinstance(event, Stamped) else event


def iso_time(time_s: float) -> str:
    """ISO 8601, UTC, with milliseconds.

    Args:
        time_s: Seconds since 1970, UTC.

    >>> iso_time(1795915425.678)
    '2026-11-29T01:23:45.678Z'
    """
    return datetime.fromtimestamp(round(time_s, 3), UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _stamp(event: Stamped) -> dict[str, Any]:
    return {"time": iso_time(event.time_s), "monotonic_s": event.monotonic_s, "camera": event.camera}


def _own_fields(event: Event) -> dict[str, Any]:
    match event:
        case SourceLost():
            return {"frame": event.index, "name": event.name, "why": event.why}
        case Refusal():
            return {"frame": event.index, "name": event.name, "refused": event.why}
        case GuardStep():
            measured = ("usage_bytes", "limit_bytes", "available_bytes", "temperature_c", "frame")
            step = {"from": str(event.before), "to": str(event.level), "why": event.why}
            return step | {name: getattr(event, name) for name in measured}
        case Reloaded() | StreamEnded() | EventsDropped():
            return {**vars(event), "why": event.why or None}
        case _:
            return dict(vars(event))


def _plain(value: Any) -> Any:
    """A value as any reader of JSON takes it: it knows no NaN, and no half of a surrogate."""
    match value:
        case bool():
            return value
        case float():
            return round(value, 6) if math.isfinite(value) else None
        case str():
            return readable_name(value)
        case tuple() | list():
            return [_plain(each) for each in value]
        case _:
            return value
