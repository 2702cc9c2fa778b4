"""What the commands say on standard error: all of it goes through here, and none of it can end a run.

Standard error may be a full disk, a closed descriptor or a pipe whose reader has died. What a run has learned is worth
more than a line about it, so nothing here raises.
"""

import contextlib
import sys

__all__ = ["draw", "on_terminal", "tell"]


def tell(program: str, text: str) -> None:
    """Say something in a line of its own, at once; where nobody can hear it, nothing happens.

    Args:
        program: Who says it, such as "ecotta run"; "" for a line without a name before it.
        text: What, without a line break at its end.
    """
    draw(f"{program}: {text}\n" if program else f"{text}\n")


def draw(text: str) -> None:
    """Write text as it is, escape sequences too: for a progress line that is written over, on a terminal.

    Never raises.
    """
    if sys.stderr is None:  # the descriptor was closed before we began, and print() would take standard output
        return
    with contextlib.suppress(OSError, ValueError):  # ValueError: somebody closed the stream meanwhile
        sys.stderr.write(text)
        sys.stderr.flush()


def on_terminal() -> bool:
    """Whether a progress display would be seen."""
    try:
        return sys.stderr is not None and sys.stderr.isatty()
    except ValueError:  # closed meanwhile
        return False
