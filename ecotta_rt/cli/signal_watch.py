"""Acts on signals at once, whatever the program is in the middle of.

Python runs its handlers between two of its own instructions. A step of a large network on a small board takes a minute
and a write to a pipe that nobody reads for ever: until then a handler waits, and a second Ctrl-C does nothing. The C
library's handler does not wait: it writes the number to a pipe (`signal.set_wakeup_fd`), and a thread reads it.
"""

import os
import select
import signal
from collections.abc import Callable, Sequence
from threading import Thread
from types import TracebackType

__all__ = ["GRACE_S", "SignalWatch"]

GRACE_S = 2.0
"""What the batch in progress is given to end by itself after the first signal."""

_AGAIN_S = 1.0
_JOIN_S = 1.0


class SignalWatch:
    """Context manager of the main thread: after one signal it asks, after two it ends the process.

    Args:
        numbers: The signals; others that have handlers in Python are let pass. Those have to be there already. A
            second SIGHUP ends nothing: of a terminal that goes both the shell and the kernel tell.
        give_up: Asks what is in progress to end. Called with the seconds since the first signal, in another thread:
            after `grace_s`, and each second from then on.
        grace_s: See `GRACE_S`.
        leave: Ends the process with an exit code, without a word, whatever other threads do.
    """

    def __init__(
        self,
        numbers: Sequence[int],
        give_up: Callable[[float], None],
        grace_s: float = GRACE_S,
        leave: Callable[[int], None] = os._exit,
    ) -> None:
        self._numbers = numbers
        self._give_up = give_up
        self._grace_s = grace_s
        self._leave = leave
        self._thread = Thread(target=self._run, name="signals", daemon=True)

    def __enter__(self) -> "SignalWatch":
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)
        self._before = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        signal.set_wakeup_fd(self._before)
        os.close(self._write)  # the thread reads its end
        self._thread.join(_JOIN_S)
        if not self._thread.is_alive():
            os.close(self._read)

    def _run(self) -> None:
        if self._wait(None, self._numbers) is None:
            return
        again = [number for number in self._numbers if number != signal.SIGHUP]
        waited_s = wait_s = self._grace_s
        while (number := self._wait(wait_s, again)) == 0:
            self._give_up(waited_s)
            wait_s = _AGAIN_S
            waited_s += wait_s
        if number is not None:
            self._leave(128 + number)

    def _wait(self, timeout_s: float | None, numbers: Sequence[int]) -> int | None:
        """The number of the next of these signals; 0 where none came in time, None where nobody watches any more."""
        while select.select([self._read], [], [], timeout_s)[0]:
            read = os.read(self._read, 1)
            if not read or read[0] in numbers:
                return read[0] if read else None
        return 0
