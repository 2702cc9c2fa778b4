"""Who hears how far a task is."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ecotta_rt.student.training import StudentProgress

__all__ = ["Watch"]


class Watch:
    """Hears all and shows nothing; the commands have one that draws bars."""

    def tell(self, line: str) -> None:
        """Something that the user should know."""

    @contextmanager
    def work(self, title: str) -> Iterator[Callable[[int, int, str], None]]:
        """Something begins; what is given hears how much is done, of how much, and what is next."""
        yield _nobody

    @contextmanager
    def epochs(self, title: str) -> Iterator[Callable[[StudentProgress], None]]:
        """The same for training."""
        yield _nobody


def _nobody(*news: object) -> None:
    """Hear nothing."""
