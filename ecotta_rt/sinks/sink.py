"""What every sink promises, and how one stands for several."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from ecotta_rt.errors import TransferError
from ecotta_rt.events import Event

__all__ = ["FanOut", "Sink", "SinkPlug", "Undelivered"]


class Sink(Protocol):
    """Takes what happens in a run, event by event."""

    def take(self, event: Event) -> None:
        """Take note of an event; of one whose kind it does not know nothing happens. It raises to end the run."""

    def close(self) -> None:
        """Finish; after that every event is ignored. May be called twice."""


class Undelivered(TransferError):
    """A sink could not deliver events that it had taken before.

    Args:
        message: Why.
        events: All that it holds, in order, the one at hand among them; it holds them no longer.
        again: Whether they are to be given to it again when it is back; else they are lost.
    """

    def __init__(self, message: str, events: Sequence[Event], *, again: bool) -> None:
        super().__init__(message)
        self.events = tuple(events)
        self.again = again


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
        stamped: Whether its sinks take each event as a `Stamped`, with the time; others take it bare.
    """

    shown: str
    recognises: Callable[[str], bool]
    opens: Callable[[str, Callable[[], bool]], Sink]
    checks: Callable[[str, str, str], None] = lambda option, text, source: None
    stamped: bool = False


class FanOut:
    """Hands each event to several sinks in order, to each of them whatever the others do; then raises the first error.

    Args:
        sinks: Closed in the opposite order. More may be added: those that report what they do need the whole first.
    """

    def __init__(self, *sinks: Sink) -> None:
        self.sinks = [*sinks]

    def add(self, *sinks: Sink) -> None:
        """Hand events to these, too."""
        self.sinks += sinks

    def take(self, event: Event) -> None:
        _each([partial(sink.take, event) for sink in self.sinks])

    def close(self) -> None:
        _each([sink.close for sink in reversed(self.sinks)])


def _each(calls: Iterable[Callable[[], None]]) -> None:
    """Make all calls; raises the first error after the last call."""
    errors = []
    for call in calls:
        try:
            call()
        except Exception as error:
            errors.append(error)
    if errors:
        raise errors[0]
