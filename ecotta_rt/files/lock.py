"""One process at a time: the second is refused, and a process that is killed leaves nothing locked."""

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from ecotta_rt.errors import TransferError, UsageError

__all__ = ["locked"]

_RETRY_S = 0.05


@contextlib.contextmanager
def locked(
    path: str | os.PathLike[str],
    wait_s: float = 0.0,
    hint: str = "end that one, or name another file",
    *,
    by: str = "another run",
    told: str | os.PathLike[str] | None = None,
) -> Iterator[None]:
    """Keep other processes that ask for the same lock out while the block runs.

    A hidden file beside `path` is locked, not the file itself, which an atomic write replaces. Where the file system
    has no locks nobody is kept out.

    Args:
        path: The file that is to be ours, links followed; it need not exist, its folder must.
        wait_s: Seconds to wait for another process to be done with it.
        hint: What to try where another process has it.
        by: What that one is likely to be.
        told: What the message calls `path`; None: just that.

    Raises:
        UsageError: Another process has it; the message names it.
        TransferError: The lock file cannot be made; nothing is locked, so it may be tried again.
    """
    target = Path(os.path.realpath(path))
    lock = target.with_name(f".{target.name}.lock")
    try:
        descriptor = _acquired(lock)
        give_up_s = time.monotonic() + wait_s
        while descriptor is None and time.monotonic() < give_up_s:
            time.sleep(_RETRY_S)
            descriptor = _acquired(lock)
    except OSError as error:
        raise TransferError(f"{lock} cannot be written: {error.strerror or error}. Check the folder") from error
    if descriptor is None:
        raise UsageError(f"{told or path} is in use by {by} ({_holder(lock)}); {hint}")
    try:
        yield
    finally:
        _release(lock, descriptor)


def _acquired(lock: Path) -> int | None:
    while True:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        except OSError:
            return descriptor  # no locks here
        # Whoever had it may have removed it after we opened it: then the name is another's, or nobody's.
        try:
            if _is_open_at(lock, descriptor):
                os.ftruncate(descriptor, 0)
                os.write(descriptor, b"%d\n" % os.getpid())
                return descriptor
        except BaseException:  # such as a full disk: were it kept open, the next try would meet our own lock
            _release(lock, descriptor)
            raise
        os.close(descriptor)


def _is_open_at(lock: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(lock), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _release(lock: Path, descriptor: int) -> None:
    with contextlib.suppress(OSError):
        lock.unlink()
    os.close(descriptor)


def _holder(lock: Path) -> str:
    try:
        number = lock.read_text(encoding="ascii", errors="replace")[:20].strip()
    except OSError:
        number = ""
    return f"process {number}" if number.isdecimal() else "a process that does not say which"
