"""What every sink promises, and how one stands for several."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from ecotta_rt.events import Event

__all__ = ["FanOut", "Sink", "SinkPlug"]


class Sink(Protocol):
    """Takes what happens in a run, event by event."""

    def take(self, event: Event) -> None:
        """Take note of an event; of one whose kind it does not know nothing happens. It raises to end the run."""

    def close(self) -> None:
        """Finish; after that every event is ignored. May be called twice."""


@dataclass(frozen=True)
class SinkPlug:
    """A kind of sink: which words of the user's are for it, and how it is opened.

    Attributes:
        shown: What users write, for messages.
        recognises: Whether a text is for it; opens nothing.
        opens: Makes the sink; raises an error of ours where it cannot. The second argument says whether the run is to
            end: a sink that waits for somebody waits no longer then.
        checks: Says before the run what would keep it from being opened; given the option's name, the text, and what
            the run reads.
    """

    shown: str
    recognises: Callable[[str], bool]
    opens: Callable[[str, Callable[[], bool]], Sink]
    checks: Callable[[str, str, str], None] = lambda option, text, source: None


class FanOut:
    """Hands each event to several sinks, in order.

    Args:
        sinks: Closed in the opposite order, each of them whatever the others do; the first error is raised.
    """

    def __init__(self, *sinks: Sink) -> None:
        self.sinks = [*sinks]

    def take(self, event: Event) -> None:
        for sink in self.sinks:
            sink.take(event)

    def close(self) -> None:
        errors = []
        for sink in reversed(self.sinks):
            try:
                sink.close()
            except Exception as error:
                errors.append(error)
        if errors:
            raise errors[0]
