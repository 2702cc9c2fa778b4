"""Where states come from: files, or bytes that somebody sent."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ecotta_rt.errors import InputFileError, TransferError
from ecotta_rt.files.kinds import open_regular
from ecotta_rt.state import state_content

__all__ = ["StateBytes", "StateFile", "StateSource", "as_source"]


class StateSource(Protocol):
    """A state's content, which can be read more than once."""

    @property
    def name(self) -> str:
        """What to call it in messages."""

    def content(self) -> bytes:
        """All of it; raises `InputFileError` where it cannot be read."""

    def part(self, start: int, stop: int) -> bytes:
        """The bytes from `start` to `stop`; raises `TransferError` where it is no longer what `content` gave."""


@dataclass(frozen=True)
class StateBytes:
    """A state in memory.

    Attributes:
        name: Of the board that sent it.
        data: The content of its file.
    """

    name: str
    data: bytes

    def content(self) -> bytes:
        return self.data

    def part(self, start: int, stop: int) -> bytes:
        return self.data[start:stop]


class StateFile:
    """A state's file. It is read in pieces later, so it must stay as it is until the merge is done.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        return str(self.path)

    def content(self) -> bytes:
        self._seen = _identity(self.path)
        return state_content(self.path)

    def part(self, start: int, stop: int) -> bytes:
        try:
            with open_regular(self.path) as file:
                if _identity_of(os.fstat(file.fileno())) != self._seen:
                    raise TransferError(f"{self.path} was changed while it was being merged; merge again")
                return os.pread(file.fileno(), stop - start, start)
        except TransferError:
            raise
        except OSError as error:
            raise TransferError(f"{self.path} can no longer be read: {error.strerror or error}") from error


def as_source(state: "Path | StateSource") -> StateSource:
    """A file of states by its path, or what is a source already."""
    return StateFile(state) if isinstance(state, Path) else state


def _identity(path: Path) -> tuple[int, ...]:
    try:
        return _identity_of(os.stat(path))
    except OSError as error:
        raise InputFileError(f"{path}: cannot be read ({error.strerror or error})") from error


def _identity_of(status: os.stat_result) -> tuple[int, ...]:
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
