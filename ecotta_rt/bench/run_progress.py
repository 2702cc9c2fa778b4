"""Show how far a run of several methods or races has come: bars on a terminal, lines into a log. Always on stderr."""

import time
from importlib.util import find_spec
from types import TracebackType
from typing import TYPE_CHECKING, Protocol

from ecotta_rt.messages import on_terminal, tell

if TYPE_CHECKING:
    from rich.progress import TaskID

__all__ = ["BarProgress", "LinesProgress", "RunProgress", "open_progress"]


class RunProgress(Protocol):
    """Hears what a run does."""

    def __enter__(self) -> "RunProgress":
        """Begin to show."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the terminal as it was."""

    def doing(self, what: str) -> None:
        """Something without a measure has begun."""

    def started(self, item: str, size: int, unit: str) -> None:
        """A method or race has been begun, of so many frames, rounds or other units."""

    def advanced(self, done: int, note: str = "") -> None:
        """So many of them are done; a note says how it stands."""

    def finished(self, item: str, outcome: str) -> None:
        """It is done."""


def open_progress(what: str, count: int) -> RunProgress:
    """The progress that suits stderr.

    Args:
        what: "methods" or "races".
        count: How many there are.
    """
    if on_terminal() and find_spec("rich") is not None:
        return BarProgress(what, count)
    return LinesProgress(count)


class LinesProgress:
    """A line on stderr for what takes long, and one for each method or race that is done; at once, also in a pipe."""

    def __init__(self, count: int) -> None:
        self._count, self._done, self._since = count, 0, time.monotonic()

    def __enter__(self) -> "LinesProgress":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def doing(self, what: str) -> None:
        tell("", what)

    def started(self, item: str, size: int, unit: str) -> None:
        self._since = time.monotonic()

    def advanced(self, done: int, note: str = "") -> None:
        pass

    def finished(self, item: str, outcome: str) -> None:
        self._done += 1
        seconds = time.monotonic() - self._since
        tell("", f"{self._done}/{self._count}  {item}  {outcome}  {seconds:.0f} s")


class BarProgress:
    """A bar for all methods or races and one for that which is on, gone when the run is over."""

    def __init__(self, what: str, count: int) -> None:
        from rich import progress
        from rich.console import Console

        name, note = progress.TextColumn("{task.description}"), progress.TextColumn("{task.fields[note]}")
        columns = (name, progress.BarColumn(), progress.MofNCompleteColumn(), note, progress.TimeElapsedColumn())
        self._bars = progress.Progress(*columns, console=Console(stderr=True), transient=True, refresh_per_second=4)
        self._all = self._bars.add_task(what, total=count, note="")
        self._one: TaskID | None = None
        self._counts = False  # whether the second bar is that of the item, not of something without a measure
        self._item, self._size, self._unit = "", 0, ""

    def __enter__(self) -> "BarProgress":
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def doing(self, what: str) -> None:
        self._replace(what, None)

    def started(self, item: str, size: int, unit: str) -> None:
        self._item, self._size, self._unit = item, size, unit
        self.doing(f"{item}: loading")

    def advanced(self, done: int, note: str = "") -> None:
        if not self._counts:
            self._replace(self._item, self._size)
        assert self._one is not None
        self._bars.update(self._one, completed=done, note=", ".join(filter(None, (self._unit, note))))

    def finished(self, item: str, outcome: str) -> None:
        self._bars.advance(self._all)

    def _replace(self, description: str, total: int | None) -> None:
        if self._one is not None:
            self._bars.remove_task(self._one)
        self._one = self._bars.add_task(description, total=total, note="")
        self._counts = total is not None
