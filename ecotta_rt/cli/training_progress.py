"""Progress of a training run on stderr: a bar on a terminal, one line an epoch elsewhere."""

from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from ecotta_rt.messages import on_terminal, tell

if TYPE_CHECKING:
    from ecotta_rt.prepare.warmup import Progress

__all__ = ["TrainingProgress"]


class TrainingProgress:
    """Context manager to hand to `warm_up` or `fine_tune` as `report`.

    Args:
        title: What is being trained.
    """

    def __init__(self, title: str) -> None:
        self._title = title
        console = Console(stderr=True)
        self._bar: Bar | None = None
        if on_terminal():
            columns = (
                "{task.description}",
                BarColumn(),
                "{task.percentage:3.0f} %",
                TextColumn("{task.fields[state]}"),
            )
            self._bar = Bar(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console)
            self._task = self._bar.add_task(title, total=None, state="")

    def __enter__(self) -> "TrainingProgress":
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()

    def __call__(self, progress: "Progress") -> None:
        """Show one step."""
        state = (
            f"epoch {progress.epoch}/{progress.epochs}  loss {progress.loss:.3f}  error {progress.error_percent:.1f} %"
        )
        if self._bar:
            self._bar.update(self._task, total=progress.steps, completed=progress.step, state=state)
        elif progress.step % max(1, progress.steps // progress.epochs) == 0:
            tell(self._title, f"{state}  {progress.seconds:.0f} s")
