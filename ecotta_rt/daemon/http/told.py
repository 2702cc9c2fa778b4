"""An event as people read it: what kind it is, and a sentence."""

from pathlib import PurePath

from ecotta_rt.events import (
    AdaptingSet,
    Alert,
    DoubtBegan,
    DoubtEnded,
    Drift,
    Event,
    EventsDropped,
    GuardStep,
    Refusal,
    Reloaded,
    SinkBack,
    SinkFailed,
    SourceBack,
    SourceLost,
    StateNotSaved,
    StateReturned,
    StateSaved,
    StreamEnded,
)
from ecotta_rt.messages import printable

__all__ = ["told"]


def told(event: Event, *, in_lines: bool = False) -> tuple[str, str] | None:
    """Its kind, as JSON lines call it, and a sentence that is safe for a terminal.

    None for events that come with every frame, or that say nothing new to a person.

    Args:
        event: Bare.
        in_lines: Whether several faults of a configuration may have a line each.
    """
    said = _said(event)
    if said is None or not isinstance(event, Reloaded):
        return None if said is None else (said[0], printable(said[1]))
    lines = said[1].split("\n")
    return said[0], "\n".join(map(printable, lines)) if in_lines else "; ".join(printable(one.strip()) for one in lines)


def _said(event: Event) -> tuple[str, str] | None:
    return _of_streams(event) or _of_states(event) or _of_the_process(event)


def _of_streams(event: Event) -> tuple[str, str] | None:
    match event:
        case SourceLost():
            return "camera-lost", event.why
        case SourceBack():
            return "camera-back", "gives frames again" + _after(event.lost_s)
        case Refusal():
            return "refused", f"{event.name}: {event.why}" if event.name else event.why
        case Drift():
            place = "a place it knows" if event.known else "a new scene"
            return "drift", f"{place}, {event.size:.1f} times the usual distance"
        case DoubtBegan():
            return "doubt", f"answers may be wrong: {event.why}"
        case DoubtEnded():
            return "doubt-ended", "the signs are good again" + _after(event.lasted_s)
        case StreamEnded():
            return "ended", event.why or "the stream has ended"
    return None


def _of_states(event: Event) -> tuple[str, str] | None:
    match event:
        case StateSaved():
            name = PurePath(event.path).name
            return "state-saved", f"{name} ({event.why})" if event.why else name
        case StateNotSaved():
            return "state-not-saved", f"not saved in {event.path}: {event.why}"
        case StateReturned():
            return "state-returned", f"back to {event.to}: {event.why}"
        case AdaptingSet():
            return "adapting", "adaptation is on" if event.adapting else "adaptation is off: the state is held"
    return None


def _of_the_process(event: Event) -> tuple[str, str] | None:
    match event:
        case GuardStep():
            return "guard", str(event).removeprefix("guard: ")
        case SinkFailed():
            return "sink-failed", f"{event.sink}: {event.why}"
        case SinkBack():
            return "sink-back", f"{event.sink}: takes events again, {event.missed} missed"
        case EventsDropped():
            return "events-dropped", f"{event.sink}: {_lost(event)}"
        case Alert():
            return "alert", f"{event.rule}: {event.why}"
        case Reloaded():
            changed = ", ".join(event.changed) or "nothing changed"
            return "reloaded", f"refused, all stays as it was: {event.why}" if event.why else changed
    return None


def _lost(event: EventsDropped) -> str:
    if event.why:
        return f"still failing at the end, {event.count} events lost: {event.why}"
    return f"too slow, {event.count} events dropped"


def _after(seconds: float | None) -> str:
    return "" if seconds is None else f" after {seconds:.0f} s"
