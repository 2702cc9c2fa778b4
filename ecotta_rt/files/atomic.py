"""Atomic writes: a reader sees the old file or the new one, and so does a device that loses its power half-way."""

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from ecotta_rt.errors import TransferError, UsageError
from ecotta_rt.files.kinds import kind_of
from ecotta_rt.files.temporary import temporary_file

__all__ = ["check_target", "open_atomic", "write_atomic"]


def write_atomic(path: str | os.PathLike[str], content: bytes, *, family: str | None = None) -> None:
    """Write under a temporary name beside `path`, force it to the disk, and move it into place.

    A symbolic link stays one: the file that it leads to is replaced. The new file has the mode and, as far as this
    process may give files away, the owner of the old one.

    Args:
        path: Where to; a regular file there is replaced, missing folders are made.
        content: All of it.
        family: As for `open_atomic`.

    Raises:
        UsageError: There is something else than a regular file: a folder, a device, a pipe.
        TransferError: The file cannot be written; `path` is as it was before.
    """
    with open_atomic(path, family=family) as file:
        file.write(content)


@contextlib.contextmanager
def open_atomic(path: str | os.PathLike[str], *, family: str | None = None) -> Iterator[BinaryIO]:
    """As `write_atomic`, for content that is written piece by piece because it should not be in memory twice.

    The file is moved into place when the `with` block ends; where it ends by an exception, `path` is as it was before.

    Args:
        path: As for `write_atomic`.
        family: What temporary files are named after instead of `path`. Where each file has a new name, a common one
            lets the next write find what killed runs have left: see `ecotta_rt.files.temporary.remove_stale`.

    Yields:
        The temporary file, open for writing.

    Raises:
        UsageError: As `write_atomic`.
        TransferError: The file cannot be written. Any `OSError` of the block is taken for that.
    """
    with _told(path):
        target, old = _target(Path(path))
        named_after = target if family is None else target.with_name(family)
        with temporary_file(named_after, 0o666 if old is None else stat.S_IMODE(old.st_mode)) as (
            temporary,
            descriptor,
        ):
            with open(descriptor, "wb", closefd=False) as file:
                yield file
            if old is not None:
                _make_like(descriptor, old)
            os.fsync(descriptor)
            os.replace(temporary, target)
        _force_folder(target.parent)


def check_target(path: str | os.PathLike[str]) -> None:
    """Find out now what would keep `write_atomic` from writing later, but for a disk that is full by then.

    Missing folders are made, and what killed runs have left of this file is removed.

    Raises:
        UsageError, TransferError: As `write_atomic`.
    """
    with _told(path):
        target, _ = _target(Path(path))
        with temporary_file(target, 0o600):
            pass


@contextlib.contextmanager
def _told(path: str | os.PathLike[str]) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        why = error.strerror or error
        raise TransferError(f"{path} cannot be written: {why}. Check the folder, its rights and its space") from error


def _target(path: Path) -> tuple[Path, os.stat_result | None]:
    """The file that is to be replaced, links followed, and what is there now."""
    target = Path(os.path.realpath(path))
    try:
        old = os.stat(path)
    except FileNotFoundError:
        if path.is_symlink():
            # Its folder may be the mount point of a disk that is not there: nothing may be made in its place.
            if not target.parent.is_dir():
                raise FileNotFoundError(errno.ENOENT, f"it leads to {target}, and there is no such folder") from None
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
        return Path(os.path.realpath(path)), None
    if not stat.S_ISREG(old.st_mode):
        hint = "name a file in it" if stat.S_ISDIR(old.st_mode) else "give the name of a regular file, or a new one"
        raise UsageError(f"{path} is {kind_of(old.st_mode)}: {hint}")
    if not os.access(target, os.W_OK):
        raise PermissionError(errno.EACCES, "it is write-protected")
    return target, old


def _make_like(descriptor: int, old: os.stat_result) -> None:
    new = os.fstat(descriptor)
    with contextlib.suppress(OSError):  # only root may give files away; and some file systems know no owners
        if (new.st_uid, new.st_gid) != (old.st_uid, old.st_gid):
            os.fchown(descriptor, old.st_uid, old.st_gid)
    with contextlib.suppress(OSError):
        os.fchmod(descriptor, stat.S_IMODE(old.st_mode))


def _force_folder(folder: Path) -> None:
    """Let the new name reach the disk too; without it a power cut brings the old file back."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
