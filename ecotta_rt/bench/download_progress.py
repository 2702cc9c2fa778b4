"""Show how far a download has come: a bar on a terminal, a line every few percent into a log. Always on stderr."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from ecotta_rt.messages import on_terminal, tell

__all__ = ["download_progress"]

_MIB = 1024 * 1024
_LINE_EVERY_BYTES = 128 * _MIB


@contextmanager
def download_progress(what: str) -> Iterator[Callable[[int, int | None], None]]:
    """Show a download while the block runs.

    Args:
        what: Name of what is fetched.

    Yields:
        A function of the bytes that are there and the bytes of the whole, or None where nobody knows.
    """
    if on_terminal() and find_spec("rich") is not None:
        with _bar(what) as advance:
            yield advance
    else:
        yield _lines(what)


@contextmanager
def _bar(what: str) -> Iterator[Callable[[int, int | None], None]]:
    from rich import progress
    from rich.console import Console

    columns = (progress.TextColumn(what), progress.BarColumn(), progress.DownloadColumn(binary_units=True))
    speed = (progress.TransferSpeedColumn(), progress.TimeRemainingColumn())
    with progress.Progress(*columns, *speed, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda have, total: bar.update(task, completed=have, total=total)


def _lines(what: str) -> Callable[[int, int | None], None]:
    told = 0

    def advance(have: int, total: int | None) -> None:
        nonlocal told
        if have - told >= _LINE_EVERY_BYTES or have == total:
            told = have
            whole = "" if total is None else f" of {total // _MIB}"
            tell(what, f"{have // _MIB}{whole} MiB")

    return advance
