"""A queue before a sink that may block: the stream goes on, and what there is no room for is dropped and counted."""

from collections import deque
from collections.abc import Callable
from threading import Condition, Thread

from ecotta_rt.events import Event, EventsDropped
from ecotta_rt.sinks.sink import Sink

__all__ = ["Queued"]


class Queued:
    """Hands events to a sink in a thread of its own; `take` never waits for it.

    When the queue is full, the oldest event in it is dropped. For streams that wait for nobody; a folder's frames are
    better answered as slowly as the answers are read.

    Args:
        sink: Takes events and is closed in the thread alone.
        name: For `EventsDropped`.
        capacity: Events that may wait.
        report: Hears of drops: of the first at once, of the others when it is closed. Called by whoever calls `take`
            and `close`.

    Attributes:
        dropped: Events that were dropped so far.

    Raises:
        Exception: From `take` and `close`, once: what the sink raised. Its events are dropped from then on.
    """

    def __init__(self, sink: Sink, name: str, capacity: int, report: Callable[[Event], None] = lambda _: None) -> None:
        self.dropped = 0
        self._sink = sink
        self._name = name
        self._capacity = capacity
        self._report = report
        self._told = 0
        self._waiting: deque[Event] = deque()
        self._changed = Condition()
        self._closed = False
        self._error: BaseException | None = None
        self._thread = Thread(target=self._run, name=f"sink {name}", daemon=True)
        self._thread.start()

    def take(self, event: Event) -> None:
        self._raise()
        with self._changed:
            if self._closed:
                return
            if len(self._waiting) == self._capacity:
                self._waiting.popleft()
                self.dropped += 1
            self._waiting.append(event)
            self._changed.notify()
        if self.dropped and not self._told:
            self._tell_drops()

    def close(self) -> None:
        """Wait until the sink has taken what is in the queue, or has failed."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()
        self._tell_drops()
        self._raise()

    def _tell_drops(self) -> None:
        count, self._told = self.dropped - self._told, self.dropped
        if count:
            self._report(EventsDropped(self._name, count))

    def _raise(self) -> None:
        with self._changed:
            error, self._error = self._error, None
        if error is not None:
            raise error

    def _run(self) -> None:
        try:
            try:
                while (event := self._next()) is not None:
                    self._sink.take(event)
            finally:
                self._sink.close()
        except BaseException as error:  # raised again in the stream
            with self._changed:
                self._error, self._closed = error, True

    def _next(self) -> Event | None:
        """The oldest event; None when there is none and none will come."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            return self._waiting.popleft() if self._waiting else None
