"""How far work has come, on stderr: a bar on a terminal where rich is installed, lines elsewhere."""

import time
from importlib.util import find_spec
from threading import Event as Flag
from threading import Thread
from types import TracebackType
from typing import TYPE_CHECKING, Self

from ecotta_rt.events import Answer, Event, EventsDropped, GuardStep, StateNotSaved
from ecotta_rt.messages import draw, on_terminal, printable, tell

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

    from ecotta_rt.machine.clock import Clock
    from ecotta_rt.prepare.epochs import WarmUpProgress
    from ecotta_rt.sinks.tally import Tally

__all__ = ["RunProgress", "StreamProgress", "TrainingProgress", "WorkProgress"]

_LINE_EVERY_S = 30.0
_SHOWN_EVERY_S = 0.25
_CLEAR = "\r\x1b[K"


class WorkProgress:
    """Context manager around the work; tell it how far the work is.

    Between its steps work may be silent for long, so the lines come from a thread of their own, at least each half
    minute.

    Args:
        title: What is being done.
        bar: Draw a bar on a terminal, for work whose length is known.
        line_every_s: Seconds after which a line is due, where there is no bar.
    """

    def __init__(self, title: str, *, bar: bool = True, line_every_s: float = _LINE_EVERY_S) -> None:
        self._title, self._state = title, "begun"
        self._began_s = self._told_s = time.monotonic()
        self._line_every_s = line_every_s
        self._ended = Flag()
        self._teller = Thread(target=self._tell_now_and_then, name="progress", daemon=True)
        self._bar = _new_bar() if bar else None
        if self._bar:
            self._task = self._bar.add_task(title, total=None, state="")

    def __enter__(self) -> Self:
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


class TrainingProgress(WorkProgress):
    """Progress to hand to `warm_up` or `fine_tune` as `report`; where there is no bar, a line an epoch too.

    Args:
        title: What is being trained.
        wrong: What to call the share of answers that are not the target.
    """

    def __init__(self, title: str, wrong: str = "error") -> None:
        super().__init__(title)
        self._wrong = wrong
        self._first: int | None = None  # of this process: what a snapshot had took no time of it

    def __call__(self, progress: "WarmUpProgress") -> None:
        """Show one step."""
        epoch = f"epoch {progress.epoch}/{progress.epochs}  loss {progress.loss:.3f}"
        state = f"{epoch}  {self._wrong} {progress.error_percent:.1f} %"
        if self._first is None:
            self._first = progress.step
        if not self._bar and progress.step < progress.steps:  # a bar tells it itself
            left_s = progress.seconds / (progress.step - self._first + 1) * (progress.steps - progress.step)
            state += f"  about {left_s / 60:.0f} min to go" if left_s > 90 else f"  about {left_s:.0f} s to go"
        self.update(progress.step, progress.steps, state)
        if progress.step % max(1, progress.steps // progress.epochs) == 0:
            self.show_line()


class RunProgress:
    """Progress of a benchmark's run: a bar for its part that is on, gone when the run is over.

    Elsewhere a line for what takes long, and one for each part that is done; at once, also in a pipe.

    Args:
        count: How many methods or races there are.
    """

    def __init__(self, count: int) -> None:
        self._count, self._done = count, 0
        self._item, self._size, self._unit = "", 0, ""
        self._since_s = time.monotonic()
        self._bar = _new_bar(transient=True)
        if self._bar:
            self._task = self._bar.add_task("", total=None, state="")

    def __enter__(self) -> Self:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()

    def doing(self, what: str) -> None:
        """Something without a measure has begun."""
        if self._bar:
            self._bar.reset(self._task, description=printable(what), total=None, state="")
        else:
            tell("", what)

    def started(self, item: str, size: int, unit: str) -> None:
        """A method or race has been begun, of so many frames, rounds or other units."""
        self._item, self._size, self._unit = item, size, unit
        self._since_s = time.monotonic()
        if self._bar:
            self.doing(f"{self._done + 1}/{self._count}  {item}: loading")

    def advanced(self, done: int, note: str = "") -> None:
        """So many of them are done; a note says how it stands."""
        if self._bar:
            state = "  ".join(filter(None, (f"{done} of {self._size} {self._unit}", note)))
            name = f"{self._done + 1}/{self._count}  {self._item}"
            self._bar.update(self._task, description=name, total=self._size, completed=done, state=printable(state))

    def finished(self, item: str, outcome: str) -> None:
        """It is done."""
        self._done += 1
        if not self._bar:
            tell("", f"{self._done}/{self._count}  {item}  {outcome}  {time.monotonic() - self._since_s:.0f} s")


class StreamProgress:
    """A sink that shows the tally, a few times a second, and leaves a line of its own of what people should know.

    Args:
        tally: Of the same run; takes each event before this does.
        clock: For the pace of the display and the frames a second.
        answers_on_screen: Whether the answers themselves go to the terminal: then they are progress enough.
    """

    def __init__(self, tally: "Tally", clock: "Clock", *, answers_on_screen: bool) -> None:
        self._tally = tally
        self._clock = clock
        self._shown = on_terminal() and not answers_on_screen
        self._start_s = self._next_s = clock.now_s()

    def take(self, event: Event) -> None:
        match event:
            case Answer():
                self._show()
            case GuardStep():
                self._say(str(event))
            case StateNotSaved():
                self._say(f"warning: {event.why}")
            case EventsDropped():
                self._say(f"warning: {event.sink} takes events more slowly than they come; the oldest are dropped")

    def close(self) -> None:
        """Leave the line empty."""
        if self._shown:
            draw(_CLEAR)

    def _show(self) -> None:
        now_s = self._clock.now_s()
        if not self._shown or now_s < self._next_s:
            return
        self._next_s = now_s + _SHOWN_EVERY_S
        rate_hz = self._tally.frames / max(now_s - self._start_s, 1e-9)
        draw(f"{_CLEAR}{self._tally}, {rate_hz:.1f} frames a second")

    def _say(self, text: str) -> None:
        """On a terminal the progress goes on below it."""
        if self._shown:
            draw(_CLEAR)
        tell("ecotta run", text)


def _new_bar(*, transient: bool = False) -> "Bar | None":
    """A bar that is not yet shown; None where it could not be seen, or rich is not installed."""
    if not on_terminal() or find_spec("rich") is None:
        return None
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    percent, state = "{task.percentage:3.0f} %", TextColumn("{task.fields[state]}")
    times = (TimeElapsedColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    return Progress("{task.description}", BarColumn(), percent, state, *times, console=console, transient=transient)
