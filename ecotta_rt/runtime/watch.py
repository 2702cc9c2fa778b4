"""Keeps the guard awake while no frame comes.

A loop asks its guard with each frame. A camera may hang for minutes, and a limit be lowered meanwhile, or somebody else
take the memory: a process that waits with all its graphs loaded is then the first to be killed.
"""

from collections.abc import Callable
from threading import Event, Thread
from types import TracebackType

__all__ = ["Watch"]

_JOIN_S = 5.0  # longer than a graph takes to load


class Watch:
    """Context manager that calls something every so often, in a thread of its own.

    Args:
        consult: What to call, such as `Loop.consult`; it raises nothing.
        every_s: Seconds between two calls.
    """

    def __init__(self, consult: Callable[[], None], every_s: float) -> None:
        self._consult = consult
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
            self._consult()
