"""Show how far a run has come: a bar on a terminal, a line a method into a log. Always on stderr."""

import sys
import time
from importlib.util import find_spec
from types import TracebackType
from typing import TYPE_CHECKING, Protocol

from ecotta_rt.bench.measure import Progress
from ecotta_rt.bench.results import Failure, Row

if TYPE_CHECKING:
    from rich.progress import TaskID

__all__ = ["BarWatch", "LinesWatch", "Watch", "open_watch"]


class Watch(Protocol):
    """Hears what a run does."""

    def __enter__(self) -> "Watch":
        """Begin to show."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the terminal as it was."""

    def doing(self, what: str) -> None:
        """Something without a measure has begun."""

    def started(self, method: str, frames: int) -> None:
        """A method's process has been started, for a stream of so many frames."""

    def advanced(self, progress: Progress) -> None:
        """That method has come so far."""

    def finished(self, outcome: Row | Failure) -> None:
        """That method is done."""


def open_watch(methods: int) -> Watch:
    """The watch that suits stderr.

    Args:
        methods: How many will run.
    """
    if sys.stderr.isatty() and find_spec("rich") is not None:
        return BarWatch(methods)
    return LinesWatch(methods)


class LinesWatch:
    """One line on stderr when a method is done; each is there at once, also in a pipe."""

    def __init__(self, methods: int) -> None:
        self._methods, self._done, self._since = methods, 0, time.monotonic()

    def __enter__(self) -> "LinesWatch":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def doing(self, what: str) -> None:
        print(what, file=sys.stderr, flush=True)

    def started(self, method: str, frames: int) -> None:
        self._since = time.monotonic()

    def advanced(self, progress: Progress) -> None:
        pass

    def finished(self, outcome: Row | Failure) -> None:
        self._done += 1
        seconds = time.monotonic() - self._since
        result = "no result" if isinstance(outcome, Failure) else f"error {outcome.error_percent:.2f} %"
        line = f"{self._done}/{self._methods}  {outcome.method}  {result}  {seconds:.0f} s"
        print(line, file=sys.stderr, flush=True)


class BarWatch:
    """A bar for all methods and one for the method that runs, gone when the run is over."""

    def __init__(self, methods: int) -> None:
        from rich import progress
        from rich.console import Console

        name, unit = progress.TextColumn("{task.description}"), progress.TextColumn("{task.fields[unit]}")
        columns = (name, progress.BarColumn(), progress.MofNCompleteColumn(), unit, progress.TimeElapsedColumn())
        self._bars = progress.Progress(*columns, console=Console(stderr=True), transient=True, refresh_per_second=4)
        self._all = self._bars.add_task("methods", total=methods, unit="")
        self._one: TaskID | None = None
        self._method = ""

    def __enter__(self) -> "BarWatch":
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def doing(self, what: str) -> None:
        self._replace(what, None)

    def started(self, method: str, frames: int) -> None:
        self._replace(f"{method}: loading", frames)
        self._method = method

    def advanced(self, progress: Progress) -> None:
        assert self._one is not None
        error = f"frames, error {100 * progress.wrong / progress.frames:.1f} %" if progress.frames else "frames"
        self._bars.update(self._one, description=self._method, completed=progress.frames, unit=error)

    def finished(self, outcome: Row | Failure) -> None:
        self._bars.advance(self._all)

    def _replace(self, description: str, total: int | None) -> None:
        if self._one is not None:
            self._bars.remove_task(self._one)
        self._one = self._bars.add_task(description, total=total, unit="frames" if total else "")
