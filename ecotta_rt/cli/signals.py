"""Ends a run on a signal, at once, whatever the program is in the middle of.

Python runs its handlers between two of its own instructions. A step of a large network on a small board takes a minute
and a write to a pipe that nobody reads for ever: until then a handler waits, and a second Ctrl-C does nothing. The C
library's handler does not wait: it writes the number to a pipe (`signal.set_wakeup_fd`), and a thread reads it.
"""

import os
import select
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from threading import Thread
from types import FrameType

__all__ = ["ENDING", "GRACE_S", "ended_by_signals", "stopped_by_signals"]

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

GRACE_S = 2.0
"""What the batch in progress is given to end by itself after the first signal."""

_JOIN_S = 1.0


@contextmanager
def stopped_by_signals(stop: Callable[[], None], received: list[int]) -> Iterator[None]:
    """Let the signals of `ENDING` call `stop` and stand in `received`. A second one does what it always did.

    Not SIGHUP: of a terminal that goes both the shell and the kernel tell, and what was learned is still to be saved.
    One that the run was started to ignore is ignored: SIGHUP below nohup, SIGINT in the background of a script.
    """

    def handle(number: int, frame: FrameType | None) -> None:
        received.append(number)
        restore()
        if signal.SIGHUP in before:
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
        stop()

    def restore() -> None:
        for signal_number, handler in before.items():
            signal.signal(signal_number, handler)

    heard = [number for number in ENDING if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, handle) for number in heard}
    try:
        yield
    finally:
        restore()


@contextmanager
def ended_by_signals(
    numbers: Sequence[int],
    give_up: Callable[[float], None],
    grace_s: float = GRACE_S,
    leave: Callable[[int], None] = os._exit,
    again_s: float = 1.0,
) -> Iterator[None]:
    """After one signal ask for an end, after two end the process; for the main thread.

    Args:
        numbers: The signals; they need handlers in Python, by the time they come. Others that have some are let pass.
            A second SIGHUP ends nothing: of a terminal that goes both the shell and the kernel tell.
        give_up: Asks what is in progress to end. Called with the seconds since the first signal, in another thread:
            after `grace_s`, and each `again_s` from then on.
        grace_s: See `GRACE_S`; 0: at once.
        leave: Ends the process with an exit code, without a word, whatever other threads do.
    """
    read, write = os.pipe()
    os.set_blocking(write, False)
    before = signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    thread = Thread(target=_watch, args=(read, numbers, give_up, grace_s, leave, again_s), name="signals", daemon=True)
    thread.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        os.close(write)  # the thread reads its end
        thread.join(_JOIN_S)
        if not thread.is_alive():
            os.close(read)


def _watch(
    read: int,
    numbers: Sequence[int],
    give_up: Callable[[float], None],
    grace_s: float,
    leave: Callable[[int], None],
    again_s: float,
) -> None:
    if _next_signal(read, numbers, None) is None:
        return
    again = [number for number in numbers if number != signal.SIGHUP]
    begun_s, due_s = time.monotonic(), grace_s
    while (number := _next_signal(read, again, max(0.0, begun_s + due_s - time.monotonic()))) == 0:
        give_up(due_s)
        due_s += again_s
    if number is not None:
        leave(128 + number)


def _next_signal(descriptor: int, numbers: Sequence[int], timeout_s: float | None) -> int | None:
    """The number of the next of these signals; 0 where none came in time, None where nobody watches any more."""
    while select.select([descriptor], [], [], timeout_s)[0]:
        read = os.read(descriptor, 1)
        if not read or read[0] in numbers:
            return read[0] if read else None
    return 0
