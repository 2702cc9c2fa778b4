"""Looks at the memory while a batch is learned from.

A loop asks its guard between batches. A large batch on a small board takes longer than the kernel waits when somebody
else takes the memory meanwhile.
"""

from collections.abc import Callable
from threading import Event, Thread
from types import TracebackType

__all__ = ["Watch"]

_JOIN_S = 5.0  # longer than a graph takes to load


class Watch:
    """Context manager that calls something every so often, in a thread of its own.

    Args:
        call: What to call, such as `Loop.check_memory`; it raises nothing.
        every_s: Seconds between two calls.
    """

    def __init__(self, call: Callable[[], None], every_s: float) -> None:
        self._call = call
        self._every_s = every_s
        self._done = Event()
        self._thread = Thread(target=self._run, name="guard", daemon=True)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join(_JOIN_S)

    def _run(self) -> None:
        while not self._done.wait(self._every_s):
            self._call()
