"""Show how far the races have come: a bar on a terminal, lines into a log. Always on stderr."""

import sys
import time
from importlib.util import find_spec
from types import TracebackType
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from rich.progress import TaskID

__all__ = ["BarLatencyWatch", "LatencyWatch", "LinesLatencyWatch", "open_latency_watch"]


class LatencyWatch(Protocol):
    """Hears what a run does."""

    def __enter__(self) -> "LatencyWatch":
        """Begin to show."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the terminal as it was."""

    def doing(self, what: str) -> None:
        """Something without a measure has begun."""

    def started(self, race: str, rounds: int) -> None:
        """A race has been begun."""

    def advanced(self, rounds: int) -> None:
        """So many of its rounds are done."""

    def finished(self, contestants: int) -> None:
        """It is over, with so many that have a result."""


def open_latency_watch(races: int) -> LatencyWatch:
    """The watch that suits stderr.

    Args:
        races: How many will be held.
    """
    if sys.stderr.isatty() and find_spec("rich") is not None:
        return BarLatencyWatch(races)
    return LinesLatencyWatch(races)


class LinesLatencyWatch:
    """A line on stderr for what takes long, and one when a race is over; each is there at once, also in a pipe."""

    def __init__(self, races: int) -> None:
        self._races, self._done, self._since, self._race = races, 0, time.monotonic(), ""

    def __enter__(self) -> "LinesLatencyWatch":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def doing(self, what: str) -> None:
        print(what, file=sys.stderr, flush=True)

    def started(self, race: str, rounds: int) -> None:
        self._since, self._race = time.monotonic(), race

    def advanced(self, rounds: int) -> None:
        pass

    def finished(self, contestants: int) -> None:
        self._done += 1
        seconds = time.monotonic() - self._since
        line = f"{self._done}/{self._races}  {self._race}  {contestants} contestants  {seconds:.0f} s"
        print(line, file=sys.stderr, flush=True)


class BarLatencyWatch:
    """A bar for all races and one for the rounds of that which is on, gone when the run is over."""

    def __init__(self, races: int) -> None:
        from rich import progress
        from rich.console import Console

        columns = (progress.TextColumn("{task.description}"), progress.BarColumn(), progress.MofNCompleteColumn())
        self._bars = progress.Progress(
            *columns, progress.TimeElapsedColumn(), console=Console(stderr=True), transient=True, refresh_per_second=4
        )
        self._all = self._bars.add_task("races", total=races)
        self._one: TaskID | None = None
        self._race, self._rounds = "", 0

    def __enter__(self) -> "BarLatencyWatch":
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def doing(self, what: str) -> None:
        self._replace(what, None)

    def started(self, race: str, rounds: int) -> None:
        self._race, self._rounds = race, rounds

    def advanced(self, rounds: int) -> None:
        if rounds == 1 or self._one is None:
            self._replace(f"{self._race}: rounds", self._rounds)
        assert self._one is not None
        self._bars.update(self._one, completed=rounds)

    def finished(self, contestants: int) -> None:
        self._bars.advance(self._all)

    def _replace(self, description: str, total: int | None) -> None:
        if self._one is not None:
            self._bars.remove_task(self._one)
        self._one = self._bars.add_task(description, total=total)
