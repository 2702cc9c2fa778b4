"""Files that the user names for results: a regular one is written atomically, a pipe or a terminal as a stream."""

import contextlib
import errno
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from ecotta_rt.errors import TransferError, UsageError
from ecotta_rt.files.atomic import check_target, write_atomic
from ecotta_rt.files.kinds import kind_of

__all__ = ["check_output", "is_inherited", "open_stream", "write_output"]

_INHERITED = re.compile(r"/dev/(?:std(out|err)|fd/([0-9]{1,6}))|/proc/self/fd/([0-9]{1,6})")


def check_output(option: str, path: str | os.PathLike[str], *inputs: str | os.PathLike[str]) -> None:
    """Say now, before any work, what would keep `write_output` or `open_stream` from writing later.

    Args:
        option: Who named it, for messages: "--json".
        path: The file.
        inputs: What the command reads, and must not replace.

    Raises:
        UsageError: It is a folder or a block device, its folder does not exist, or it is one of `inputs`.
        TransferError: It cannot be written.
    """
    path = Path(path)
    if _inherited(path) is not None:
        return
    mode = _mode(path)
    for read in inputs:
        with contextlib.suppress(OSError):
            if os.path.samefile(path, read) and stat.S_ISREG(mode or 0):
                raise UsageError(f"{option} {path} would replace {read}, which is read; name another file")
    if mode is None and not path.parent.is_dir() and not path.is_symlink():
        raise UsageError(f"{option} {path}: there is no folder {path.parent}; make it first")
    if mode is not None and (stat.S_ISDIR(mode) or stat.S_ISBLK(mode)):
        raise UsageError(f"{option} {path}: this is {kind_of(mode)}; name a file{' in it' * stat.S_ISDIR(mode)}")
    if mode is None or stat.S_ISREG(mode):
        check_target(path)
    elif not os.access(path, os.W_OK):
        raise TransferError(f"{option} {path}: this {kind_of(mode)[2:]} cannot be written; check its rights")


def write_output(path: str | os.PathLike[str], content: bytes) -> None:
    """Write all of `content`; see `write_atomic` for what holds of a regular file.

    Raises:
        UsageError: It is a folder or a block device.
        TransferError: It cannot be written.
        BrokenPipeError: It is a pipe, and its reader is gone.
    """
    path = Path(path)
    mode = _mode(path)
    if _inherited(path) is None and (mode is None or stat.S_ISREG(mode)):
        write_atomic(path, content)
        return
    try:
        with open(_opened(path), "wb") as file:
            file.write(content)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise _refusal(path, error) from error


@contextlib.contextmanager
def open_stream(path: str | os.PathLike[str]) -> Iterator[TextIO]:
    """Open for lines of UTF-8 that are to be there at once. A regular file is replaced, and keeps its mode and owner.

    A pipe that nobody reads is refused: opening it would wait until somebody does.

    Raises:
        UsageError: It is a folder or a block device.
        TransferError: It cannot be opened.
    """
    try:
        file = os.fdopen(_opened(Path(path)), "w", encoding="utf-8")
    except OSError as error:
        raise _refusal(path, error) from error
    try:
        yield file
    finally:
        # Every line was flushed: what fails here has failed before, and has been told.
        with contextlib.suppress(OSError):
            file.close()


def is_inherited(path: str | os.PathLike[str]) -> bool:
    """Whether a name stands for a descriptor that this process was started with, such as /dev/stdout."""
    return _inherited(Path(path)) is not None


def _opened(path: Path) -> int:
    inherited = _inherited(path)
    if inherited is not None:
        # Not opened anew: a socket cannot be, and a file would be written from its beginning.
        return os.dup(inherited)
    mode = _mode(path)
    if mode is not None and stat.S_ISBLK(mode):
        raise UsageError(f"{path} is a block device: what is on it would be lost")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOCTTY
    descriptor = os.open(path, flags | os.O_NONBLOCK, 0o666)  # or a pipe would wait for a reader
    os.set_blocking(descriptor, True)
    return descriptor


def _refusal(path: str | os.PathLike[str], error: OSError) -> TransferError:
    nobody = error.errno == errno.ENXIO
    why = "nobody reads this pipe; start its reader first" if nobody else error.strerror or error
    return TransferError(f"{path} cannot be written: {why}")


def _inherited(path: Path) -> int | None:
    """The descriptor that a name such as /dev/stdout stands for."""
    match = _INHERITED.fullmatch(os.fspath(path))
    if match is None:
        return None
    standard, number, other = match.groups()
    return {"out": 1, "err": 2}[standard] if standard else int(number or other)


def _mode(path: Path) -> int | None:
    """What is there, links followed; None where there is nothing, or where nobody may look."""
    try:
        return os.stat(path).st_mode
    except OSError:
        return None
