"""How far a stream has come: one line on a terminal that is written over, and nothing elsewhere."""

from ecotta_rt.events import Answer, Event, EventsDropped, GuardStep, StateNotSaved
from ecotta_rt.machine.clock import Clock
from ecotta_rt.messages import draw, on_terminal, tell
from ecotta_rt.sinks.tally import Tally

__all__ = ["StreamProgress"]

_EVERY_S = 0.25
_CLEAR = "\r\x1b[K"


class StreamProgress:
    """A sink that shows the tally, a few times a second, and leaves a line of its own of what people should know.

    Args:
        tally: Of the same run; takes each event before this does.
        clock: For the pace of the display and the frames a second.
        answers_on_screen: Whether the answers themselves go to the terminal: then they are progress enough.
    """

    def __init__(self, tally: Tally, clock: Clock, *, answers_on_screen: bool) -> None:
        self._tally = tally
        self._clock = clock
        self._shown = on_terminal() and not answers_on_screen
        self._start_s = self._next_s = clock.now_s()

    def take(self, event: Event) -> None:
        match event:
            case Answer():
                self._show()
            case GuardStep():
                self._say(str(event))
            case StateNotSaved():
                self._say(f"warning: {event.why}")
            case EventsDropped():
                self._say(f"warning: {event.sink} takes events more slowly than they come; the oldest are dropped")

    def close(self) -> None:
        """Leave the line empty."""
        if self._shown:
            draw(_CLEAR)

    def _show(self) -> None:
        now_s = self._clock.now_s()
        if not self._shown or now_s < self._next_s:
            return
        self._next_s = now_s + _EVERY_S
        rate_hz = self._tally.frames / max(now_s - self._start_s, 1e-9)
        draw(f"{_CLEAR}{self._tally}, {rate_hz:.1f} frames a second")

    def _say(self, text: str) -> None:
        """On a terminal the progress goes on below it."""
        if self._shown:
            draw(_CLEAR)
        tell("ecotta run", text)
