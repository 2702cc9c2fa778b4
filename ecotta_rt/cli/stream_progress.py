"""How far a stream has come: one line on a terminal that is written over, and nothing elsewhere."""

from types import TracebackType
from typing import TYPE_CHECKING

from ecotta_rt.messages import draw, on_terminal, tell

if TYPE_CHECKING:
    from ecotta_rt.machine.clock import Clock
    from ecotta_rt.runtime.guard import GuardEvent
    from ecotta_rt.sinks.tally import Tally

__all__ = ["StreamProgress"]

_EVERY_S = 0.25
_CLEAR = "\r\x1b[K"


class StreamProgress:
    """Context manager that leaves the line empty.

    Args:
        clock: For the pace of the display and the frames a second.
        answers_on_screen: Whether the answers themselves go to the terminal: then they are progress enough.

    Attributes:
        last_step: The guard's, as far as it made one.
    """

    def __init__(self, clock: "Clock", *, answers_on_screen: bool) -> None:
        self._clock = clock
        self._shown = on_terminal() and not answers_on_screen
        self._start_s = self._next_s = clock.now_s()
        self.last_step: GuardEvent | None = None

    def __enter__(self) -> "StreamProgress":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._shown:
            draw(_CLEAR)

    def after_batch(self, tally: "Tally") -> None:
        """Show the tally, a few times a second."""
        now_s = self._clock.now_s()
        if not self._shown or now_s < self._next_s:
            return
        self._next_s = now_s + _EVERY_S
        rate_hz = tally.frames / max(now_s - self._start_s, 1e-9)
        draw(f"{_CLEAR}{tally}, {rate_hz:.1f} frames a second")

    def show_step(self, step: "GuardEvent") -> None:
        """Leave a line of its own, on a terminal or not; the progress goes on below it."""
        self.last_step = step
        if self._shown:
            draw(_CLEAR)
        tell("ecotta run", str(step))
