"""Progress of a training run on stderr: a bar on a terminal; elsewhere a line an epoch, and each half minute."""

from types import TracebackType
from typing import TYPE_CHECKING

from ecotta_rt.cli.work_progress import WorkProgress

if TYPE_CHECKING:
    from ecotta_rt.prepare.warmup import Progress

__all__ = ["TrainingProgress"]


class TrainingProgress:
    """Context manager to hand to `warm_up` or `fine_tune` as `report`.

    Args:
        title: What is being trained.
        wrong: What to call the share of answers that are not the target.
    """

    def __init__(self, title: str, wrong: str = "error") -> None:
        self._wrong = wrong
        self._work = WorkProgress(title)
        self.say = self._work.say

    def __enter__(self) -> "TrainingProgress":
        self._work.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._work.__exit__(kind, error, trace)

    def __call__(self, progress: "Progress") -> None:
        """Show one step."""
        state = (
            f"epoch {progress.epoch}/{progress.epochs}  loss {progress.loss:.3f}"
            f"  {self._wrong} {progress.error_percent:.1f} %"
        )
        self._work.update(progress.step, progress.steps, state)
        if progress.step % max(1, progress.steps // progress.epochs) == 0:
            self._work.show_line()
