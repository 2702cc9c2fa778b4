"""What an output of the daemon is given beside its own options."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from ecotta_rt.events import Event
from ecotta_rt.machine.clock import Clock
from ecotta_rt.sinks.camera_states import CameraStates

__all__ = ["Control", "SinkContext"]


class Control(Protocol):
    """What an owner may ask of a daemon while it runs, from any thread; the loop does it between two frames.

    Raises:
        UsageError: From each of them: no such camera.
    """

    @property
    def cameras(self) -> tuple[str, ...]:
        """Names of the cameras there are now."""

    def adapting(self, camera: str) -> bool:
        """Whether a camera adapts: switched on, whatever the guard allows."""

    def set_adapting(self, camera: str, on: bool) -> None:
        """Switch the adaptation of a camera on or off; answers go on, and off holds its state as it is."""

    def reset(self, camera: str) -> None:
        """Let a camera begin anew from the bundle's own state; what it has learned is kept."""


@dataclass(frozen=True)
class SinkContext:
    """What an output is opened with.

    Attributes:
        report: Hears of what the output itself has to tell, such as `SinkFailed`; from any thread.
        stopping: Whether the run is to end: who waits for somebody waits no longer then.
        clock: Paces retries.
        classes: Names of the network's classes.
        control: For outputs that take commands; None: nobody listens.
        states: How each camera is. Who makes the context has it take each event, before the outputs do.
        say: Tells people what is no event, in a line of the log; from any thread.
    """

    report: Callable[[Event], None]
    stopping: Callable[[], bool]
    clock: Clock
    classes: tuple[str, ...] = ()
    control: Control | None = None
    states: CameraStates = field(default_factory=CameraStates)
    say: Callable[[str], None] = lambda text: None
