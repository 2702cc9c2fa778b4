"""Calls something every so often, in a thread of its own: a look at the memory while a batch is learned from.

A loop asks its guard between batches. A large batch on a small board takes longer than the kernel waits when somebody
else takes the memory meanwhile.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Thread

__all__ = ["repeating"]


@contextmanager
def repeating(look: Callable[[], None], every_s: float, join_s: float = 5.0) -> Iterator[None]:
    """Look every so often, in a thread of its own.

    Args:
        look: Such as `Loop.check_memory`; raises nothing.
        every_s: Seconds between two looks.
        join_s: Seconds to wait at the end for a look in progress; a reading takes long on a board that swaps.
    """
    done = Event()

    def run() -> None:
        while not done.wait(every_s):
            look()

    thread = Thread(target=run, name="guard", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join(join_s)
