"""Say of each event when it happened, by the wall clock too: for a run, which has one stream and no camera's name."""

import time
from collections.abc import Callable

from ecotta_rt.events import Answer, Event, Stamped
from ecotta_rt.machine.clock import Clock, SystemClock
from ecotta_rt.sinks.sink import Sink

__all__ = ["Stamping"]


class Stamping:
    """Hands each event to a sink, stamped.

    Args:
        sink: Takes them, and is closed with it.
        clock: The one that dates the frames.
        wall_s: Seconds since 1970, UTC.
    """

    def __init__(self, sink: Sink, clock: Clock | None = None, wall_s: Callable[[], float] = time.time) -> None:
        self._sink = sink
        self._clock = clock or SystemClock()
        self._wall_s = wall_s
        self.close = sink.close

    def take(self, event: Event) -> None:
        ago_s = event.latency_ms / 1000 if isinstance(event, Answer) else 0.0
        self._sink.take(Stamped(event, self._wall_s() - ago_s, self._clock.now_s() - ago_s))
