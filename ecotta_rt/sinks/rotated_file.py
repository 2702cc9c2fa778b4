"""A file of lines that grows for months: appended to, put aside by size and age, and told apart from one that moved.

    answers.jsonl   the newest lines
    answers.jsonl.1, answers.jsonl.2.gz, ...   older ones; the highest number is the oldest

Names and steps are those of logrotate(8), which may do the same work beside us, by rename or by copytruncate: every
write is an append, so a file that was truncated has no NULs in it, and one that was moved is left alone.
"""

import contextlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ecotta_rt.errors import TransferError, UsageError
from ecotta_rt.files.atomic import open_atomic
from ecotta_rt.files.kinds import kind_of

__all__ = ["RotatedFile", "Rotation", "check_ours"]

_LONGEST_LINE = 1 << 16
_PIECE = 1 << 16


@dataclass(frozen=True)
class Rotation:
    """When a file is put aside, and how many are kept.

    Attributes:
        most_bytes: Before a line that would make it larger; None: never.
        every_s: Before the first line of another span of so many seconds since 1970, UTC; None: never.
        keep: Files that are put aside; the oldest are removed when there are more.
        compress: Whether they are compressed with gzip.
    """

    most_bytes: int | None = None
    every_s: float | None = None
    keep: int = 5
    compress: bool = False


class RotatedFile:
    """Open for appending from the first write on.

    A last line without an end, as a process leaves it that was killed or had no room, is cut off. A file that somebody
    else wrote stays as it is.

    Args:
        path: A regular file, or none yet.
        rotation: When it is put aside.
        header: The first line of each file; one that begins with another is put aside.
        begins: What our own files begin with, one of these.

    Raises:
        TransferError: From any method: it is no regular file, or not ours, or cannot be opened or written. Then a part
            of the line may be in it, which is cut off when it is opened again.
    """

    def __init__(self, path: Path, rotation: Rotation, header: bytes = b"", begins: tuple[bytes, ...] = (b"",)) -> None:
        self._path = path
        self._rotation = rotation
        self._header = header
        self._begins = begins
        self._written_s = 0.0
        self._descriptor: int | None = None
        with self._told():
            self._open()

    def write(self, line: bytes, time_s: float) -> None:
        """Append a line, there at once.

        Args:
            line: With its line break.
            time_s: When it is of, in seconds since 1970, UTC: decides whether the file is put aside before.
        """
        with self._told():
            if self._descriptor is None or self._has_moved(self._descriptor):
                self._open()
            if self._is_due(len(line), time_s):
                self._begin_anew()
            self._append(line if self._size() else self._header + line)
            self._written_s = time_s

    def reopen(self) -> None:
        """Look for the file by its name again: somebody may have moved it."""
        with self._told():
            self._open()

    def close(self) -> None:
        """Close it; may be called twice."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except TransferError:
            raise
        except OSError as error:
            raise TransferError(f"{self._path} cannot be written: {error.strerror or error}") from error

    def _open(self, mode: int = 0o666) -> None:
        self.close()
        # Not blocking: what is no regular file must not be waited for, only refused.
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
        self._descriptor = os.open(self._path, flags, mode)
        status = os.fstat(self._descriptor)
        if not stat.S_ISREG(status.st_mode):
            self.close()
            raise TransferError(f"{self._path} cannot be appended to: this is {kind_of(status.st_mode)}")
        if not _is_ours(self._descriptor, self._begins):
            self.close()
            raise TransferError(_not_ours(self._path))
        self._written_s = status.st_mtime
        _cut_torn_line(self._descriptor, status.st_size)
        if self._header and self._size() and os.pread(self._descriptor, len(self._header), 0) != self._header:
            self._begin_anew()

    def _append(self, data: bytes) -> None:
        """In one piece, but where there is no room for all: then the second attempt says why."""
        assert self._descriptor is not None
        while data:
            data = data[os.write(self._descriptor, data) :]

    def _size(self) -> int:
        assert self._descriptor is not None
        return os.fstat(self._descriptor).st_size

    def _has_moved(self, descriptor: int) -> bool:
        try:
            return not os.path.samestat(os.stat(self._path), os.fstat(descriptor))
        except FileNotFoundError:
            return True

    def _is_due(self, more_bytes: int, time_s: float) -> bool:
        size, most_bytes, every_s = self._size(), self._rotation.most_bytes, self._rotation.every_s
        if size <= len(self._header):
            return False
        if most_bytes is not None and size + more_bytes > most_bytes:
            return True
        # Spans, and not the file's age: its last line is dated by the disk, so that a restart changes nothing.
        return every_s is not None and time_s // every_s > self._written_s // every_s

    def _begin_anew(self) -> None:
        """A new file in place of this one, with its mode."""
        mode = stat.S_IMODE(os.stat(self._path).st_mode)
        self._put_aside()
        self._open(mode)

    def _put_aside(self) -> None:
        """One step up for each file, the oldest first: whenever we are killed, no line is lost or there twice."""
        self.close()
        self._require_ours_aside()
        for number in reversed(range(1, self._first_free())):
            for file in self._numbered(number):
                if number >= self._rotation.keep:
                    file.unlink()
                else:
                    file.rename(self._aside(number + 1, file.suffix == ".gz"))
        first = self._aside(1)
        self._path.rename(first)
        if self._rotation.compress:
            # A disk without room for it: the file stays as it is.
            with contextlib.suppress(OSError):
                _compress(first, self._aside(1, compressed=True))

    def _require_ours_aside(self) -> None:
        """A file of such a name that somebody else wrote is neither moved nor removed."""
        for number in range(1, self._first_free()):
            for file in self._numbered(number):
                if file.suffix != ".gz" and not _begins_like(file, self._begins):
                    raise TransferError(_not_ours(file))

    def _first_free(self) -> int:
        """The first number that no file has; when fewer are kept than before, those beyond are removed as well."""
        number = 1
        while self._numbered(number):
            number += 1
        return number

    def _numbered(self, number: int) -> list[Path]:
        """The file of that number. Two mean that we were killed between the last steps of compressing one."""
        plain, compressed = self._aside(number), self._aside(number, compressed=True)
        if plain.exists() and compressed.exists():
            plain.unlink()
        return [file for file in (plain, compressed) if file.exists()]

    def _aside(self, number: int, compressed: bool = False) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}{'.gz' * compressed}")


def check_ours(path: Path, begins: tuple[bytes, ...]) -> None:
    """Say before the start that a file was written by somebody else.

    Args:
        path: It may not be there.
        begins: As for `RotatedFile`.

    Raises:
        UsageError: It was.
        OSError: It cannot be read.
    """
    if path.exists() and not _begins_like(path, begins):
        raise UsageError(_not_ours(path))


def _not_ours(path: Path) -> str:
    return f"{path} is left as it is: it does not begin like a file of this output; name another, or move it away"


def _begins_like(path: Path, begins: tuple[bytes, ...]) -> bool:
    with open(path, "rb") as file:
        return _is_ours(file.fileno(), begins)


def _is_ours(descriptor: int, begins: tuple[bytes, ...]) -> bool:
    """Whether a file begins like ours, as far as it goes: the first line may be torn."""
    head = os.pread(descriptor, max(map(len, begins)), 0)
    return any(head.startswith(each) or each.startswith(head) for each in begins)


def _cut_torn_line(descriptor: int, size: int) -> None:
    """Cut off a last line without an end; one that is longer than any of ours only gets its end."""
    start = max(0, size - _LONGEST_LINE)
    tail = os.pread(descriptor, size - start, start)
    if not tail or tail.endswith(b"\n"):
        return
    whole = tail.rfind(b"\n") + 1
    if whole or not start:
        os.ftruncate(descriptor, start + whole)
    else:
        os.write(descriptor, b"\n")


def _compress(plain: Path, compressed: Path) -> None:
    import gzip  # here: most files are never compressed

    with open(plain, "rb") as file, open_atomic(compressed, family=f"{plain.name}.gz") as target:
        os.fchmod(target.fileno(), stat.S_IMODE(os.fstat(file.fileno()).st_mode))
        with gzip.GzipFile(fileobj=target, mode="wb", mtime=0, filename="") as packed:
            while piece := file.read(_PIECE):
                packed.write(piece)
    plain.unlink()
