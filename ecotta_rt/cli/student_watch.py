"""What the commands of `ecotta student` show of a task: lines, bars, a line an epoch. Needs torch, as the tasks do."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ecotta_rt.cli.progress import WorkProgress
from ecotta_rt.messages import on_terminal, tell
from ecotta_rt.student.training import StudentProgress
from ecotta_rt.student.watch import Watch

__all__ = ["EpochProgress", "ShownWatch"]


class EpochProgress(WorkProgress):
    """Progress to hand to `train` as `report`; where there is no bar, a line an epoch too, with the time left."""

    def __call__(self, progress: StudentProgress) -> None:
        """Show one step."""
        means = "  ".join(f"{name} {value:.3f}" for name, value in progress.means.items())
        left = "" if on_terminal() else f"  about {progress.seconds_left:.0f} s to go"
        self.update(progress.step, progress.steps, f"epoch {progress.epoch}/{progress.epochs}  {means}{left}")
        if progress.step % max(1, progress.steps // progress.epochs) == 0:
            self.show_line()


class ShownWatch(Watch):
    """Shows on stderr; `command` begins its lines."""

    def __init__(self, command: str) -> None:
        self._command = command

    def tell(self, line: str) -> None:
        tell(self._command, line)

    @contextmanager
    def work(self, title: str) -> Iterator[Callable[[int, int, str], None]]:
        with WorkProgress(title) as progress:
            yield progress.update

    @contextmanager
    def epochs(self, title: str) -> Iterator[Callable[[StudentProgress], None]]:
        with EpochProgress(title) as progress:
            yield progress
