"""What the commands say on standard error: all of it goes through here, and none of it can end a run.

Standard error may be a full disk, a closed descriptor or a pipe whose reader has died. What a run has learned is worth
more than a line about it, so nothing here raises.

What is said may hold a camera's password, or names that a stranger gave to a file or to the node of a graph.
`printable` masks the one and escapes the other; `tell` and `show` do so with all they are given.
"""

import contextlib
import os
import re
import sys
from collections.abc import Collection, Iterator, Sequence
from typing import TextIO

__all__ = ["draw", "escaped", "in_columns", "mask", "on_terminal", "own_output", "printable", "show", "tell"]

_MASK = "***"
_LONGEST = 1 << 14
"""Characters of a message; the first ones say what is wrong."""

# Every repetition has an end, so that a hostile name of a megabyte costs no minutes.
# User and password, up to the last @ before the next address: a password may hold anything, line breaks and @ too.
# One slash or none, since people mistype addresses, and it is then that they are shown.
_SCHEME = r"[a-z][a-z0-9+.-]{0,30}:/"
_USER_INFO = re.compile(
    rf"\b((?:rtsps?|rtmps?|https?|udp|tcp|srt|mqtts?):/*|{_SCHEME}/*)(?:(?!\s[\"'(]?{_SCHEME}).){{0,1024}}@",
    re.I | re.S,
)
# The same where the scheme was forgotten: admin:secret@192.168.1.20.
_BARE_USER_INFO = re.compile(r"[^\s/:@'\"*]{1,256}:[^\s/@]{1,256}@(?=[\w\[])")
# In a path or a query: ?token=..., &authBasic=..., and /user=admin_password=..., as many cameras want it. What the name
# says is enough. In the address of a stream a value may hold anything, up to where a message goes on.
_NAME = (
    r"(?:[\w.-]{0,40}?(?:pass|pwd|psw|token|secret|auth|cred|sig|key|user|usr|login|session)[\w.-]{0,40}|(?<![a-z])pw)="
)
_SECRET_NAME = re.compile(_NAME, re.I)
_KEYED = re.compile(rf"({_NAME})[^&;\s]*[^&;\s:,.]", re.I)
_ADDRESS = re.compile(rf"(?:{_SCHEME}|/|\?)\S{{1,2048}}", re.I)
_KEYED_IN_STREAM = re.compile(rf"({_NAME})(?:(?!: |[&;#]).){{1,2048}}", re.I | re.S)
_STREAM = re.compile(r"\b((?:rtsps?|rtmps?|srt):/*)[^\s?=]{0,512}[?/].{1,4096}", re.I | re.S)


def mask(text: str) -> str:
    """Put *** for what may be a user, a password or a token in the addresses of streams.

    >>> mask("rtsp://admin:se@cret@10.0.0.7/live?token=abc: no such stream")
    'rtsp://***@10.0.0.7/live?token=***: no such stream'
    >>> mask("rtsp:/admin:secret@10.0.0.7"), mask("admin:secret@10.0.0.7/live")
    ('rtsp:/***@10.0.0.7', '***@10.0.0.7/live')
    """
    if "=" in text:
        text = _STREAM.sub(_masked_values, text)
    if "@" in text:
        text = _BARE_USER_INFO.sub(f"{_MASK}@", _USER_INFO.sub(rf"\1{_MASK}@", text))
    if "=" not in text:
        return text
    return _ADDRESS.sub(lambda address: _KEYED.sub(rf"\1{_MASK}", address[0]), text)


def _masked_values(address: re.Match[str]) -> str:
    text, first = address[0], _SECRET_NAME.search(address[0])
    if first is None:
        return text
    end = text.find(": ", first.end()) % (len(text) + 1)  # where the message goes on, or the end
    if "@" in text[first.end() : end]:  # of a password or of a value: nobody can say
        return address[1] + _MASK + text[end:]
    return _KEYED_IN_STREAM.sub(rf"\1{_MASK}", text)


def printable(text: str, *, keep: str = "") -> str:
    r"""Mask what is secret, and write as an escape sequence what a terminal would take for an order.

    Args:
        text: Of anybody's.
        keep: Characters to leave as they are, such as line breaks.

    >>> print(printable("\x1b[2Jdoor"))
    \x1b[2Jdoor
    """
    return escaped(mask(text), keep=keep)


def escaped(text: str, *, keep: str = "") -> str:
    """As `printable`, with nothing masked: for data that must stay on one line."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else c.encode("unicode_escape").decode() for c in text)


def tell(program: str, text: str) -> None:
    """Say something in a line of its own, at once; where nobody can hear it, nothing happens.

    Args:
        program: Who says it, such as "ecotta run"; "" for a line without a name before it.
        text: What, without a line break at its end; made `printable`, but for line breaks.
    """
    text = printable(text[:_LONGEST], keep="\n")
    draw(f"{program}: {text}\n" if program else f"{text}\n")


def show(text: str, file: TextIO | None = None) -> None:
    """Print a result that people read, made `printable` but for line breaks, on standard output or in `file`.

    Raises:
        OSError: It cannot be written.
    """
    print(printable(text, keep="\n"), file=file)


def in_columns(rows: Sequence[Sequence[str]], right: Collection[int] = ()) -> str:
    """Rows as plain text in aligned columns.

    Args:
        rows: All of one length.
        right: Places of the columns whose figures are to stand below each other.

    >>> print(in_columns([("name", "MiB"), ("a", "10.5")], right={1}))
    name   MiB
    a     10.5
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = (
        "  ".join(
            cell.rjust(width) if place in right else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )
    return "\n".join(line.rstrip() for line in lines)


@contextlib.contextmanager
def own_output() -> Iterator[TextIO]:
    """Standard output for our lines alone, while libraries that print to it reach standard error.

    onnxruntime and FFmpeg are foreign code that writes to descriptor 1 when it likes to; a program that reads JSON
    lines from us would stumble over it. Where standard output is no descriptor (a test's), it is yielded as it is.
    """
    try:
        ours = sys.stdout.fileno() == 1 and sys.stderr.fileno() == 2
    except (AttributeError, OSError, ValueError):  # None, an object in memory, closed
        ours = False
    if not ours:
        yield sys.stdout
        return
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    file = os.fdopen(kept, "w", encoding=sys.stdout.encoding, errors=sys.stdout.errors, closefd=False)
    try:
        yield file
    finally:
        with contextlib.suppress(OSError):  # every line was flushed: what fails here has failed before, and been told
            file.close()
        os.dup2(kept, 1)
        os.close(kept)


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
