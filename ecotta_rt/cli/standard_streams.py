"""Standard streams as a program may find them: closed, full, or of an encoding that lacks characters."""

import contextlib
import io
import os
import select
import sys
from typing import TextIO

__all__ = ["prepare_streams", "reader_is_gone", "settle_streams"]

_STDIN, _STDOUT, _STDERR = 0, 1, 2


def prepare_streams() -> None:
    """Make them safe to use; for the beginning of a command.

    Who closed a descriptor (`>&-`) would see the next file that is opened take its number, and whatever a library
    prints land in it. A closed standard output is opened so that each write fails, and is noticed.
    """
    for number, flags in ((_STDIN, os.O_RDONLY), (_STDOUT, os.O_RDONLY), (_STDERR, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            with contextlib.suppress(OSError):  # the lowest free number, which is this one
                os.set_inheritable(os.open(os.devnull, flags), True)
    if sys.stdout is None:
        sys.stdout = os.fdopen(_STDOUT, "w", encoding="utf-8", closefd=False)
    # A name that cannot be printed here is shown with escapes; standard error does that by itself.
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")


def reader_is_gone() -> bool:
    """Whether nobody reads standard output any more; a pipe that broke may have been another."""
    poll = select.poll()
    poll.register(_STDOUT, 0)  # of the end of a pipe one is told unasked
    return bool(poll.poll(0))


def settle_streams(*, abandoned: bool = False) -> None:
    """Write what is left, and where that fails forget it; for the end of a command.

    Python would try again when it ends, complain, and end with a code of its own.

    Args:
        abandoned: Forget results at once: their reader may hang, and the user wants an end.
    """
    for stream in (sys.stdout, sys.stderr):
        try:
            if abandoned and stream is sys.stdout:  # messages are written at once, nothing of them waits
                _forget(stream)
            stream.flush()
        except (OSError, ValueError, AttributeError):
            with contextlib.suppress(OSError, ValueError, AttributeError):
                _forget(stream)
                stream.flush()


def _forget(stream: TextIO) -> None:
    """Let all that is still in its buffer go nowhere."""
    if stream.fileno() not in (_STDOUT, _STDERR):  # somebody's stand-in
        return
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, stream.fileno())
    finally:
        os.close(null)
