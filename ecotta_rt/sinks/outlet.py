"""A sink with a queue and a thread of its own: whatever it does, the stream goes on, since `take` never waits.

Every event that is not given to the sink is counted and told. One that fails is opened again, as a daemon wants it; or
is `fatal`: `ecotta run` ends when its sink does.
"""

import random
import time
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from threading import Condition, Thread
from typing import Any

from ecotta_rt.errors import EcottaError
from ecotta_rt.events import Event, EventsDropped, SinkBack, SinkFailed, Stamped
from ecotta_rt.machine.clock import Clock, SystemClock
from ecotta_rt.sinks.context import SinkContext
from ecotta_rt.sinks.event_fields import EVENT_NAMES, event_name
from ecotta_rt.sinks.kinds import SinkOptions, sink_kind
from ecotta_rt.sinks.sink import Sink, Undelivered

__all__ = ["Outlet", "close_all", "open_outlet"]

_WAITS_S = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0)  # before the next try; the last one is repeated
_SETTLED_S = 10.0  # a sink that lasted this long begins with the first wait again
_TELL_EVERY_S = 60.0


class Outlet:
    """Hands events to a sink in a thread of its own, in order.

    A sink may have more than `take` and `close`: `tick()`, called after each `tick_s` seconds without an event;
    `reopen()`; and `held`, how many events it has taken and not delivered. All runs in that thread, and may raise.

    Args:
        name: For events.
        opens: Opens the sink, in the thread; what it raises is told, and it is tried again.
        report: Hears of `SinkFailed`, `SinkBack` and `EventsDropped`; from any thread.
        capacity: Events that may wait; the oldest are dropped when there are more.
        wanted: Whether the sink gets an event.
        fatal: What the sink raises is raised by `take` or `close`, once. It is not opened again, and gets no events any
            more. Then `report` is called by nobody but whoever calls those two.
        clock: Says when to try again: after 1 s, 2 s, 4 s and so on to a minute.
        draw: Gives numbers in [0, 1). A wait is that share of what it could be, so that many who lost one broker do not
            come back in step ("full jitter": Brooker, Exponential Backoff And Jitter, 2015).

    Attributes:
        name: As given.
        lost: Events that the sink was not given, or could not deliver, so far.
    """

    def __init__(
        self,
        name: str,
        opens: Callable[[], Sink],
        report: Callable[[Event], None],
        *,
        capacity: int = 256,
        wanted: Callable[[Event], bool] = lambda _: True,
        fatal: bool = False,
        clock: Clock | None = None,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self.name = name
        self.lost = 0
        self._opens = opens
        self._report = report
        self._capacity = capacity
        self._wanted = wanted
        self._fatal = fatal
        self._clock = clock or SystemClock()
        self._draw = draw
        # Shared, behind the condition:
        self._changed = Condition()
        self._waiting: deque[Event] = deque()
        self._at_hand = 0
        self._untold = 0  # of `lost`
        self._tell_s = self._clock.now_s()
        self._failing = False
        self._why = ""  # what it failed with last; empty: it does not fail
        self._closed = False
        self._reopens = False
        self._left_behind = False
        self._error: Exception | None = None  # of a fatal one
        # Of the thread alone:
        self._sink: Any = None
        self._tries = 0
        self._try_s = self._opened_s = self._tell_s
        self._thread = Thread(target=self._run, name=f"output {name}", daemon=True)
        self._thread.start()

    @property
    def failing(self) -> bool:
        """Whether it waits to be opened again."""
        return self._failing

    @property
    def missed(self) -> int:
        """Events lost since it failed; 0 while it does not fail. `SinkBack` tells them, or the end does."""
        with self._changed:
            return self._untold if self._failing else 0

    @property
    def waiting(self) -> int:
        """Events that wait."""
        return len(self._waiting)

    def take(self, event: Event) -> None:
        """Let an event wait for the sink; never waits itself, and raises nothing, but for what ends a fatal one."""
        self._raise()
        if not self._wanted(event):
            return
        with self._changed:
            if self._closed:
                return
            self._waiting.append(event)
            self._drop_the_oldest()
            self._changed.notify()
        self._tell_drops()

    def reopen(self) -> None:
        """Let the sink open its file anew, where it has one: somebody may have moved it."""
        with self._changed:
            self._reopens = True
            self._changed.notify()

    def finish(self) -> None:
        """Take no more events, and close the sink after those that wait; returns at once."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def close(self, most_s: float | None = None) -> None:
        """As `finish`, and wait for it. A sink that hangs is left behind with what it was not given, and that is told.

        Args:
            most_s: Seconds to wait; None: as long as it takes.
        """
        self.finish()
        self._thread.join(most_s)
        with self._changed:
            hangs = self._thread.is_alive() and not self._left_behind
            self._left_behind |= hangs
            self._lose(len(self._waiting) + (max(self._at_hand, getattr(self._sink, "held", 0)) if hangs else 0))
            self._waiting.clear()
            count, self._untold = self._untold, 0
            why = self._why
        if hangs:
            self._report(SinkFailed(self.name, f"not done within {most_s:.1f} s of the end; left behind"))
        if count:
            self._report(EventsDropped(self.name, count, why))
        self._raise()

    def _raise(self) -> None:
        with self._changed:
            error, self._error = self._error, None
        if error is not None:
            raise error

    # What follows runs in the thread, but for `_drop_the_oldest`, `_lose` and `_tell_drops`.

    def _run(self) -> None:
        while not self._is_done():
            if self._sink is not None:
                self._serve()
            elif self._clock.now_s() >= self._try_s:
                self._open()
            else:
                self._wait(self._try_s - self._clock.now_s(), lambda: self._closed)
        self._close_sink()

    def _is_done(self) -> bool:
        with self._changed:
            return self._closed and (self._failing or not self._waiting or self._left_behind)

    def _open(self) -> None:
        try:
            self._sink = self._opens()
        except Exception as error:
            self._fail(error)
        else:
            self._opened_s = self._clock.now_s()

    def _serve(self) -> None:
        """Give one event to the sink, or let it do what else it has to do."""
        event, reopens = self._next()
        try:
            if reopens and hasattr(self._sink, "reopen"):
                self._sink.reopen()
            if event is not None:
                self._sink.take(event)
            elif hasattr(self._sink, "tick"):
                self._sink.tick()
        except Exception as error:
            self._fail(error, event)
        else:
            self._succeed(event)

    def _next(self) -> tuple[Event | None, bool]:
        """The oldest event, None where none came for a while; and whether to open anew."""
        self._wait(getattr(self._sink, "tick_s", None), lambda: self._waiting or self._closed or self._reopens)
        with self._changed:
            reopens, self._reopens = self._reopens, False
            event = self._waiting.popleft() if self._waiting else None
            self._at_hand = event is not None
            return event, reopens

    def _wait(self, most_s: float | None, until: Callable[[], Any]) -> None:
        with self._changed:
            if not until():
                self._changed.wait(most_s)

    def _succeed(self, event: Event | None) -> None:
        with self._changed:
            self._at_hand = 0
            back = self._failing and event is not None and not self._left_behind
            self._failing = self._failing and not back
            self._why = "" if back else self._why
            missed, self._untold = (self._untold, 0) if back else (0, self._untold)
        if back:
            self._report(SinkBack(self.name, missed))

    def _fail(self, error: Exception, event: Event | None = None) -> None:
        """Close it, say so unless that was said, and find out when to try again."""
        now_s = self._clock.now_s()
        if self._sink is not None and now_s - self._opened_s >= _SETTLED_S:
            self._tries = 0
        self._close_sink()
        self._try_s = now_s + _WAITS_S[min(self._tries, len(_WAITS_S) - 1)] * self._draw()
        self._tries += 1
        with self._changed:
            told, self._failing = self._failing or self._left_behind or self._fatal, True
            self._why = _said(error)
            if self._fatal:
                self._error, self._closed = error, True
                self._waiting.clear()
            else:
                self._give_back(error, event)
        if not told:
            self._report(SinkFailed(self.name, _said(error)))

    def _give_back(self, error: Exception, event: Event | None) -> None:
        """What of the events it was given is lost, and what is to be given again."""
        undelivered = error.events if isinstance(error, Undelivered) else () if event is None else (event,)
        self._at_hand = 0
        if isinstance(error, Undelivered) and error.again and not self._left_behind:
            self._waiting.extendleft(reversed(undelivered))
            self._drop_the_oldest()
        elif not self._left_behind:  # else they were counted
            self._lose(len(undelivered))

    def _close_sink(self) -> None:
        sink, self._sink = self._sink, None
        try:
            if sink is not None:
                sink.close()
        except Exception as error:
            with self._changed:
                self._lose(len(error.events) if isinstance(error, Undelivered) else 0)
                self._why = self._why or _said(error)
                if self._fatal:
                    self._error = self._error or error

    def _drop_the_oldest(self) -> None:
        while len(self._waiting) > self._capacity:
            self._waiting.popleft()
            self._lose(1)

    def _lose(self, count: int) -> None:
        self.lost += count
        self._untold += count

    def _tell_drops(self) -> None:
        """At once, and then once a minute; of a sink that has failed it is told when it is back."""
        with self._changed:
            now_s = self._clock.now_s()
            due = self._untold and not self._failing and now_s >= self._tell_s
            count, self._untold = (self._untold, 0) if due else (0, self._untold)
            self._tell_s = now_s + _TELL_EVERY_S if due else self._tell_s
        if count:
            self._report(EventsDropped(self.name, count))


def open_outlet(
    kind: str, name: str, options: SinkOptions, context: SinkContext, after: Callable[[], None] = lambda: None
) -> Outlet:
    """An output as a configuration has it; it is opened in its thread.

    Args:
        kind: One of `KINDS`.
        name: For events.
        options: Of that kind.
        context: What it is opened with.
        after: Called in its thread before each time that it is opened; may wait for those whose file it takes over.
    """
    opens = partial(_open_after, after, partial(sink_kind(kind).opens, options, name, context))
    wanted = partial(_is_wanted, frozenset(options.events or EVENT_NAMES), frozenset(options.cameras))
    return Outlet(name, opens, context.report, capacity=options.queue, wanted=wanted, clock=context.clock)


def _open_after(after: Callable[[], None], opens: Callable[[], Sink]) -> Sink:
    after()
    return opens()


def close_all(outlets: Iterable[Outlet], most_s: float) -> None:
    """Close outputs side by side, within one limit for all of them.

    Args:
        outlets: The outputs.
        most_s: Seconds to wait.
    """
    outlets = [*outlets]
    for outlet in outlets:
        outlet.finish()
    end_s = time.monotonic() + most_s
    for outlet in outlets:
        outlet.close(max(0.0, end_s - time.monotonic()))


def _is_wanted(events: frozenset[str], cameras: frozenset[str], event: Event) -> bool:
    camera = event.camera if isinstance(event, Stamped) else None
    return event_name(event) in events and (camera is None or not cameras or camera in cameras)


def _said(error: Exception) -> str:
    return str(error) if isinstance(error, EcottaError | OSError) else f"{type(error).__name__}: {error}"
