"""A terminal that is drawn anew each second, and left as it was found."""

import os
import select
import signal
import sys
import termios
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from ecotta_rt.cli.top_screen import Paint, screen
from ecotta_rt.errors import EcottaError

__all__ = ["repaint"]

_EVERY_S = 1.0
# The other screen, without a cursor; and back.
_ENTER, _LEAVE = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"
_HOME, _TO_THE_END = "\x1b[H", "\x1b[J"
_END_OF_LINE = "\x1b[K\n"
_ENDING = (b"q", b"Q", b"\x03", b"\x04", b"")


def repaint(ask: Callable[[], dict[str, Any]], paint: Paint) -> None:
    """Draw until `q`, Ctrl-C or the end of the input.

    Args:
        ask: Gives a status; what it raises of ours is shown, and it is asked again.
        paint: How much the terminal can show.

    Raises:
        EcottaError: What the first asking raised.
    """
    status, trouble = ask(), ""
    with suppress(KeyboardInterrupt), _own_screen() as woken:
        while True:
            _draw(status, paint, trouble)
            if _ended(woken):
                return
            try:
                status, trouble = ask(), ""
            except EcottaError as error:
                trouble = str(error).partition(";")[0]


def _draw(status: dict[str, Any], paint: Paint, trouble: str) -> None:
    size = os.get_terminal_size(sys.stdout.fileno())
    lines = screen(status, size.columns, size.lines, paint, trouble)
    sys.stdout.write(_HOME + _END_OF_LINE.join(lines) + "\x1b[K" + _TO_THE_END)
    sys.stdout.flush()


def _ended(woken: int) -> bool:
    """Wait a second, or until the window changes; whether somebody has seen enough."""
    ready, _, _ = select.select([sys.stdin, woken], [], [], _EVERY_S)
    if woken in ready:
        os.read(woken, 512)
    return sys.stdin in ready and os.read(sys.stdin.fileno(), 1) in _ENDING


@contextmanager
def _own_screen() -> Iterator[int]:
    """Take the terminal, and give it back as it was; yields a descriptor that is readable when the window changes."""
    stdin = sys.stdin.fileno()
    before = termios.tcgetattr(stdin)
    woken, wake = os.pipe()
    handlers = {number: signal.signal(number, _leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    handlers[signal.SIGWINCH] = signal.signal(signal.SIGWINCH, lambda number, frame: None)
    os.set_blocking(wake, False)
    waker = signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    try:
        tty.setcbreak(stdin)
        sys.stdout.write(_ENTER)
        yield woken
    finally:
        sys.stdout.write(_LEAVE)
        sys.stdout.flush()
        termios.tcsetattr(stdin, termios.TCSADRAIN, before)
        signal.set_wakeup_fd(waker)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        os.close(woken)
        os.close(wake)


def _leave(number: int, frame: object) -> None:
    raise SystemExit(128 + number)
