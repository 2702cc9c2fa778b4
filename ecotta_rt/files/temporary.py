"""Temporary files and folders that do not pile up when runs are killed.

Whoever makes one holds its lock (flock), which the kernel gives back however the process ends. The next one of the same
name removes those that nobody holds.
"""

import contextlib
import fcntl
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

__all__ = ["is_free", "remove_stale", "temporary_file", "temporary_folder"]

_SUFFIX = ".tmp"


@contextlib.contextmanager
def temporary_file(beside: Path, mode: int) -> Iterator[tuple[Path, int]]:
    """A new file in the folder of `beside`, named after it and hidden; removed at the end if it is still there.

    Args:
        beside: Its folder must exist.
        mode: Permission bits; the umask takes some away.

    Yields:
        Its path, and a descriptor open for writing, which is closed at the end.

    Raises:
        OSError: It cannot be made.
    """
    remove_stale(beside)
    prefix = f".{beside.name}."
    path, descriptor = _new_file(beside.parent, prefix, mode)
    try:
        yield path, descriptor
    finally:
        os.close(descriptor)
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def remove_stale(beside: Path) -> None:
    """Remove what `temporary_file` of the same argument has left where runs were killed; what is in use stays."""
    _remove_stale(beside.parent, f".{beside.name}.")


@contextlib.contextmanager
def temporary_folder(parent: str | os.PathLike[str], prefix: str) -> Iterator[Path]:
    """A new folder, removed at the end with all that is in it.

    Args:
        parent: Must exist.
        prefix: What its name begins with; others of that prefix are removed when nobody holds them.

    Raises:
        OSError: It cannot be made.
    """
    _remove_stale(Path(parent), prefix)
    while True:
        path = Path(parent, f"{prefix}{os.urandom(4).hex()}{_SUFFIX}")
        path.mkdir(mode=0o700)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:  # a cleaner of another process saw it before it was held
            continue
        if _claimed(descriptor, path):
            break
        os.close(descriptor)
    try:
        yield path
    finally:
        os.close(descriptor)
        _remove_folder(path)


def is_free(descriptor: int) -> bool:
    """Take the lock of an open file; False where another has it, or where this file system has no locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _new_file(folder: Path, prefix: str, mode: int) -> tuple[Path, int]:
    while True:
        path = folder / f"{prefix}{os.urandom(4).hex()}{_SUFFIX}"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        if _claimed(descriptor, path):
            return path, descriptor
        os.close(descriptor)


def _claimed(descriptor: int, path: Path) -> bool:
    """Lock what was just made; False where a cleaner of another process was faster."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True  # no locks here, so nobody removes it
    return os.path.lexists(path)


def _remove_stale(folder: Path, prefix: str) -> None:
    ours = re.compile(re.escape(prefix) + r"[0-9a-f]+" + re.escape(_SUFFIX))
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if ours.fullmatch(entry.name):
                with contextlib.suppress(OSError):
                    _remove_if_free(entry)


def _remove_if_free(entry: os.DirEntry[str]) -> None:
    status = entry.stat(follow_symlinks=False)
    if status.st_uid != os.geteuid() or not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
        return
    descriptor = os.open(entry.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        if is_free(descriptor):
            if stat.S_ISDIR(status.st_mode):
                _remove_folder(entry.path)
            else:
                os.unlink(entry.path)
    finally:
        os.close(descriptor)


def _remove_folder(path: str | Path) -> None:
    import shutil  # here: with the compressions that it loads it takes a megabyte, and a device makes no folders

    shutil.rmtree(path, ignore_errors=True)
