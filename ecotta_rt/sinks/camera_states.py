"""What each camera is like now, for outputs that show it: whatever they have missed, and whenever they were opened."""

from dataclasses import dataclass, replace
from threading import Lock

from ecotta_rt.events import (
    AdaptingSet,
    Answer,
    DoubtBegan,
    DoubtEnded,
    Event,
    SourceBack,
    SourceLost,
    Stamped,
    StreamEnded,
)

__all__ = ["CameraState", "CameraStates"]


@dataclass(frozen=True)
class CameraState:
    """What whoever connects later wants to know of a camera.

    Attributes:
        available: Whether it gives frames.
        adapting: Whether it adapts.
        doubt: Whether its answers may no longer be right.
    """

    available: bool = True
    adapting: bool = True
    doubt: bool = False

    def after(self, event: Event) -> "CameraState":
        """The state after an event."""
        match event:
            case StreamEnded():
                return replace(self, available=False, doubt=False)
            case SourceLost():
                return replace(self, available=False)
            case SourceBack() | Answer():
                return replace(self, available=True)
            case AdaptingSet(adapting=adapting):
                return replace(self, adapting=adapting)
            case DoubtBegan() | DoubtEnded():
                return replace(self, doubt=isinstance(event, DoubtBegan))
        return self


class CameraStates:
    """Takes all stamped events as they happen, and knows how each camera is; for any thread."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._states: dict[str, CameraState] = {}

    @property
    def cameras(self) -> tuple[str, ...]:
        """Those of which anything was told, also when they are no more."""
        with self._lock:
            return tuple(self._states)

    def of(self, camera: str) -> CameraState:
        """How a camera is; one that is new has nothing against it."""
        with self._lock:
            return self._states.get(camera, CameraState())

    def take(self, event: Stamped, /) -> None:
        """Take note of an event."""
        if event.camera is not None:
            with self._lock:
                before = self._states.get(event.camera, CameraState())
                self._states[event.camera] = before.after(event.event)
