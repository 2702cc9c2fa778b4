"""Progress of long work on stderr: a bar on a terminal; elsewhere a line at least each half minute."""

import time
from threading import Event, Thread
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from ecotta_rt.messages import on_terminal, printable, tell

__all__ = ["WorkProgress"]

_LINE_EVERY_S = 30.0


class WorkProgress:
    """Context manager around the work; tell it how far the work is.

    Between its steps work may be silent for long, so the lines come from a thread of their own.

    Args:
        title: What is being done.
        bar: Draw a bar on a terminal, for work whose length is known.
        line_every_s: Seconds after which a line is due, where there is no bar.
    """

    def __init__(self, title: str, *, bar: bool = True, line_every_s: float = _LINE_EVERY_S) -> None:
        self._title, self._state = title, "begun"
        self._began_s = self._told_s = time.monotonic()
        self._line_every_s = line_every_s
        self._ended = Event()
        self._teller = Thread(target=self._tell_now_and_then, name="progress", daemon=True)
        self._bar: Bar | None = None
        if bar and on_terminal():
            columns = (
                "{task.description}",
                BarColumn(),
                "{task.percentage:3.0f} %",
                TextColumn("{task.fields[state]}"),
            )
            self._bar = Bar(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=Console(stderr=True))
            self._task = self._bar.add_task(title, total=None, state="")

    def __enter__(self) -> "WorkProgress":
        if self._bar:
            self._bar.start()
        else:
            self._teller.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        if self._bar:
            self._bar.stop()
        else:
            self._teller.join()

    def update(self, done: int, total: int, state: str = "") -> None:
        """So much is done; `state` says more than the two numbers do."""
        if self._bar:
            self._bar.update(self._task, total=total, completed=done, state=printable(state))
        self._state = state or f"{done} of {total}"

    def say(self, text: str) -> None:
        """Leave a line, bar or not; it is the state from now on."""
        self._state = text
        if self._bar:
            self._bar.console.print(printable(f"{self._title}: {text}"), markup=False, highlight=False)
        else:
            self._tell()

    def show_line(self) -> None:
        """Leave a line of the state now, where there is no bar."""
        if not self._bar:
            self._tell()

    def _tell(self) -> None:
        self._told_s = time.monotonic()
        tell(self._title, f"{self._state}  {self._told_s - self._began_s:.0f} s")

    def _tell_now_and_then(self) -> None:
        while not self._ended.wait(max(0.0, self._told_s + self._line_every_s - time.monotonic())):
            if time.monotonic() >= self._told_s + self._line_every_s:
                self._tell()
