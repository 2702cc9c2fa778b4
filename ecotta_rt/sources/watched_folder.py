"""A folder into which somebody puts pictures: each new one is a frame, as soon as it is complete.

    watch:/srv/pictures?every=0.5&old=no&after=keep

The folder is looked at again and again, which works on every file system, network ones too. A picture is complete when
size and time of change are the same twice in a row; a picture that is written anew is a new one. Names that begin with
a dot and those of no picture are left alone: write under such a name and rename, if you like to be sure.
"""

import contextlib
import os
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from ecotta_rt.errors import BadFrames, InputFileError, UsageError
from ecotta_rt.events import Item, Refusal, SourceLost
from ecotta_rt.files.fields import Limit
from ecotta_rt.machine.clock import Clock, SystemClock
from ecotta_rt.records import Frame
from ecotta_rt.sources.image_file import IMAGE_SUFFIXES, PLAIN_SUFFIXES, read_image
from ecotta_rt.sources.images import in_natural_order
from ecotta_rt.sources.patience import GIVES_UP, Patience
from ecotta_rt.sources.picture import require_pillow
from ecotta_rt.sources.query import read_query
from ecotta_rt.sources.source import SourcePlug

__all__ = ["WATCH", "WatchOptions", "WatchedFolder"]

_PREFIX = "watch:"
_DONE = "done"
_PAUSE_S = 0.5

_Version = tuple[int, int]
"""Time of change in nanoseconds, and size."""

_FolderId = tuple[int, int]
"""Device and number of a folder: a mount point is another one while nothing is mounted there."""

_FOLDERS = 2  # that are remembered: the folder, and what is there while it is away


@dataclass(frozen=True)
class WatchOptions:
    """How a folder is watched.

    Attributes:
        every: Seconds between two looks.
        old: Whether pictures count that are there at the start.
        after: What becomes of a picture after the next one was asked for: it is kept, deleted, or moved into a folder
            `done` in this one.
    """

    every: Annotated[float, Limit(0.05, 86400)] = 0.5
    old: bool = False
    after: Literal["keep", "delete", "move"] = "keep"


class WatchedFolder:
    """New pictures of a folder, for ever.

    Args:
        folder: Folders inside it are not entered.
        options: How it is watched.
        clock: Dates the frames, and waits between looks.
        patience: Whether it is waited for where it is not there.

    Raises:
        InputFileError: It cannot be read, and is not waited for.
    """

    dropped = 0

    def __init__(
        self,
        folder: Path,
        options: WatchOptions | None = None,
        clock: Clock | None = None,
        patience: Patience = GIVES_UP,
    ) -> None:
        self._folder = folder
        self._options = options or WatchOptions()
        self._clock = clock or SystemClock()
        self._patience = patience
        self._closed = False
        self._lost = False
        self._seen: dict[str, _Version] = {}  # as at the last look
        self._taken: dict[str, tuple[_Version, _FolderId]] = {}  # with where it was seen last
        self._folders: tuple[_FolderId, ...] = ()  # the latest is the last
        self._began = self._options.old  # whether pictures were seen that are older than the start
        try:
            self._remember(*self._look())
        except InputFileError:
            if not patience.from_start:
                raise

    def __iter__(self) -> Generator[Item, None, None]:
        """Raises `InputFileError` where the folder goes away, and is not waited for."""
        for item in self.ticking(None):
            if item is not None:
                yield item

    def ticking(self, every_s: float | None) -> Generator[Item | None, None, None]:
        """Iterate, with None after each `every_s` seconds without a frame, and after each look where it is rare."""
        index, told_s = 0, self._clock.now_s()
        while self._wanted():
            for item in self._new_items(index):
                if not self._wanted():
                    return
                yield item
                index, told_s = index + 1, self._clock.now_s()
            self._pause()
            if every_s is not None and self._clock.now_s() - told_s >= every_s:
                told_s = self._clock.now_s()
                yield None

    def close(self) -> None:
        self._closed = True

    def _wanted(self) -> bool:
        # A method, since another thread may change it at any time.
        return not self._closed

    def _new_items(self, index: int) -> Generator[Item, None, None]:
        try:
            folder_id, found = self._look()
        except InputFileError as error:
            if not self._patience.unending:
                raise
            if not self._lost:
                self._lost = True
                yield SourceLost(index, str(self._folder), f"{error}; it is looked for until it is back")
            return
        self._lost = False
        self._remember(folder_id, found)
        taken = {name: version for name, (version, _) in self._taken.items()}
        whole = [name for name, version in found.items() if self._seen.get(name) == version != taken.get(name)]
        self._seen = found
        for name in sorted(whole, key=lambda name: (found[name][0], in_natural_order(Path(name)))):
            self._taken[name] = found[name], folder_id
            yield self._read(name, index)
            index += 1
            self._finish(name)

    def _remember(self, folder_id: _FolderId, found: dict[str, _Version]) -> None:
        """Forget pictures that are gone from where they were seen, and no others: their disk may come back."""
        moved = folder_id not in self._folders[-1:]
        self._folders = (*(other for other in self._folders if other != folder_id), folder_id)[-_FOLDERS:]
        if moved and not self._began:
            self._taken = {name: (version, folder_id) for name, version in found.items()}
        self._began = self._began or bool(found)
        self._taken = {
            name: (version, folder_id if name in found else at)
            for name, (version, at) in self._taken.items()
            if name in found or (at != folder_id and at in self._folders)
        }

    def _look(self) -> tuple[_FolderId, dict[str, _Version]]:
        """Where the folder is, and its pictures by name."""
        found: dict[str, _Version] = {}
        try:
            with _opened(self._folder) as folder, os.scandir(folder) as entries:
                status = os.fstat(folder)
                folder_id = status.st_dev, status.st_ino
                for entry in entries:
                    if not entry.name.startswith(".") and entry.name.lower().endswith(IMAGE_SUFFIXES):
                        with contextlib.suppress(FileNotFoundError):  # gone meanwhile
                            if entry.is_file():
                                status = entry.stat()
                                found[entry.name] = (status.st_mtime_ns, status.st_size)
        except OSError as error:
            raise InputFileError(
                f"{self._folder}: cannot be read ({error.strerror or error}); expected a folder for pictures"
            ) from error
        if self._options.after != "keep" and not os.access(self._folder, os.W_OK | os.X_OK):
            raise InputFileError(
                f"{self._folder}: nothing can be taken out of it; after={self._options.after} needs write access to "
                "it, after=keep does not"
            )
        return folder_id, found

    def _read(self, name: str, index: int) -> Item:
        try:
            return Frame(read_image(self._folder / name), index, self._clock.now_s(), name)
        except BadFrames as error:
            return Refusal(index, name, str(error))

    def _finish(self, name: str) -> None:
        """What fails here is tried no more: the picture was answered, and stays."""
        with contextlib.suppress(OSError):
            if self._options.after == "delete":
                (self._folder / name).unlink()
            elif self._options.after == "move":
                (self._folder / _DONE).mkdir(exist_ok=True)
                (self._folder / name).replace(self._folder / _DONE / name)

    def _pause(self) -> None:
        until_s = self._clock.now_s() + self._options.every
        while self._wanted() and (left_s := until_s - self._clock.now_s()) > 0:
            self._clock.sleep_s(min(left_s, _PAUSE_S))


@contextlib.contextmanager
def _opened(folder: Path) -> Iterator[int]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _asked(text: str) -> tuple[Path, WatchOptions]:
    folder, _, query = text.removeprefix(_PREFIX).partition("?")
    if not folder:
        raise UsageError(f"{text}: write watch:FOLDER, or watch:FOLDER?every=2&old=yes")
    return Path(folder), read_query(text, query, WatchOptions)


def _require_decoder(text: str) -> None:
    """What will come is not known; a folder in which there are plain pictures alone needs no package."""
    folder = Path(text.removeprefix(_PREFIX).partition("?")[0])
    try:
        suffixes = {entry.suffix.lower() for entry in folder.iterdir()} & {*IMAGE_SUFFIXES}
    except OSError:
        suffixes = set()
    if not suffixes or not suffixes <= {*PLAIN_SUFFIXES}:
        require_pillow()


WATCH = SourcePlug(
    shown="watch:FOLDER",
    recognises=lambda text: text.startswith(_PREFIX),
    opens=lambda text, request: WatchedFolder(*_asked(text), request.clock, request.patience),
    checks=_asked,
    needs=_require_decoder,
)
