"""Events as lines, into a file that is appended to and put aside, or onto a stream that somebody reads."""

import contextlib
import os
import select
import stat
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TextIO

from ecotta_rt.errors import TransferError
from ecotta_rt.events import Event, Stamped
from ecotta_rt.files.fields import Doc, Limit
from ecotta_rt.files.output import check_output, is_inherited, open_stream
from ecotta_rt.files.sizes import byte_size, size_fault
from ecotta_rt.messages import own_output
from ecotta_rt.sinks.context import SinkContext
from ecotta_rt.sinks.kinds import STANDARD_OUTPUT, SinkOptions
from ecotta_rt.sinks.rotated_file import RotatedFile, Rotation, check_ours
from ecotta_rt.sinks.sink import Sink

__all__ = ["LineFile", "LineOptions", "LineStream", "check_lines", "open_lines"]

_LOOK_EVERY_S = 0.5  # for a reader that hangs; whether the run is to end is looked for in between
_HOUR_S = 3600.0


class LineStream:
    """Each event a line, there at once.

    Args:
        file: Where to.
        line: The line of an event, without its break; empty: it has none.
        name: For messages.
        stopping: Whether the run is to end. A reader that takes nothing is waited for until then.
        close: Closes the file; by default it stays open.

    Raises:
        BrokenPipeError: From `take`: nobody reads any more.
        TransferError: From `take`: it cannot be written, the disk may be full.
    """

    def __init__(
        self,
        file: TextIO,
        line: Callable[[Event], str],
        name: str,
        stopping: Callable[[], bool] | None = None,
        close: Callable[[], None] = lambda: None,
    ) -> None:
        self._file = file
        self._line = line
        self._name = name
        self._stopping = stopping if _is_open_file(file) else None
        self.close = close

    def take(self, event: Event) -> None:
        line = self._line(event)
        if line and not self._file.closed:
            self._write(line)

    def _write(self, line: str) -> None:
        try:
            self._wait_for_reader()
            print(line, file=self._file, flush=True)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise TransferError(f"{self._name} cannot be written: {error.strerror or error}") from error

    def _wait_for_reader(self) -> None:
        """A write into a full pipe could be ended by nothing but a kill, and what was learned would go with it."""
        while self._stopping is not None and not select.select([], [self._file], [], _LOOK_EVERY_S)[1]:
            if self._stopping():
                raise TransferError(f"{self._name}: its reader takes no more, and the run is to end")


class LineFile:
    """Each event a line at the end of a file.

    Args:
        file: The file.
        line: As for `LineStream`.
    """

    def __init__(self, file: RotatedFile, line: Callable[[Event], str]) -> None:
        self._file: RotatedFile | None = file
        self._line = line

    def take(self, event: Event) -> None:
        """Raises `TransferError`: it cannot be written."""
        line = self._line(event)
        if line and self._file is not None:
            time_s = event.time_s if isinstance(event, Stamped) else time.time()
            self._file.write(f"{line}\n".encode(), time_s)

    def reopen(self) -> None:
        """Somebody may have moved the file."""
        if self._file is not None:
            self._file.reopen()

    def close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            file.close()


@dataclass(frozen=True)
class LineOptions(SinkOptions):
    """Of outputs that write lines."""

    file: Annotated[
        str | None,
        Doc(
            "The file, which is appended to; a pipe is written to. Without it: standard output.",
            '"/var/log/ecotta/door.jsonl"',
        ),
    ] = None
    rotate_size: Annotated[str, size_fault, Doc("A file that would be larger is put aside as FILE.1.")] = "10MiB"
    rotate_hours: Annotated[
        float,
        Limit(0, 24 * 366),
        Doc("And when so many hours are over, counted from midnight UTC; 24: each night; 0: never."),
    ] = 0.0
    keep: Annotated[int, Limit(1, 1000), Doc("How many files put aside there are at most.")] = 5
    compress: Annotated[bool, Doc("Compress them with gzip.")] = False

    @property
    def writes(self) -> tuple[str, ...]:
        if self.file is None:
            return (STANDARD_OUTPUT,)
        aside = [f"{self.file}.{number}" for number in range(1, self.keep + 1)]
        return (self.file, *aside, *(f"{name}.gz" for name in aside))

    @property
    def rotation(self) -> Rotation:
        """When the file is put aside."""
        return Rotation(byte_size(self.rotate_size), self.rotate_hours * _HOUR_S or None, self.keep, self.compress)


def open_lines(
    options: LineOptions,
    context: SinkContext,
    line: Callable[[Event], str],
    begins: tuple[bytes, ...],
    header: str = "",
) -> Sink:
    """A sink for lines.

    Args:
        options: Where to.
        context: What it is opened with.
        line: As for `LineStream`.
        begins: As for `RotatedFile`.
        header: The first line of each file.

    Raises:
        TransferError: It cannot be opened.
    """
    if options.file is not None and _grows(options.file):
        first = f"{header}\n".encode() if header else b""
        return LineFile(RotatedFile(Path(options.file), options.rotation, first, begins), line)
    stack = ExitStack()
    # What libraries print to standard output goes to standard error meanwhile.
    file = stack.enter_context(own_output() if options.file is None else open_stream(options.file))
    sink = LineStream(file, line, options.file or "standard output", context.stopping, stack.close)
    if header:
        print(header, file=file, flush=True)
    return sink


def check_lines(begins: tuple[bytes, ...], options: LineOptions, name: str) -> None:
    """Say before the start what would keep a file from being written.

    Raises:
        UsageError: It is a folder, or somebody else's file, or its folder does not exist.
    """
    if options.file is not None:
        with contextlib.suppress(TransferError):  # of a disk that may be there later
            check_output(f"output {name}: file", options.file)
        if _grows(options.file):
            with contextlib.suppress(OSError):  # not to be read by who looks; the daemon may
                check_ours(Path(options.file), begins)


def _grows(name: str) -> bool:
    """Whether it is a regular file, or will be one."""
    try:
        return not is_inherited(name) and stat.S_ISREG(os.stat(name).st_mode)
    except OSError:
        return True


def _is_open_file(file: TextIO) -> bool:
    """Whether there is something below it that one can wait for; nobody waits for a text in memory."""
    try:
        return file.fileno() >= 0
    except OSError:
        return False
