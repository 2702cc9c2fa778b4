"""A folder of pictures, or a single one, as a stream."""

import re
from collections import Counter
from collections.abc import Generator
from os.path import exists  # Path.exists raises where a name is too long or nobody may look
from pathlib import Path

from ecotta_rt.errors import BadFrames, InputFileError
from ecotta_rt.events import Item, Refusal
from ecotta_rt.machine.clock import Clock, SystemClock
from ecotta_rt.messages import printable
from ecotta_rt.records import Frame
from ecotta_rt.sources.image_file import IMAGE_SUFFIXES, PLAIN_SUFFIXES, read_image
from ecotta_rt.sources.picture import require_pillow
from ecotta_rt.sources.source import SourcePlug

__all__ = ["PICTURES", "Images", "in_natural_order"]

_NAMED_FOLDERS = 3


class Images:
    """The pictures of a folder in natural order: `frame-9` before `frame-10`. Folders inside it are not entered.

    Args:
        path: The folder, or one picture.
        clock: Dates the frames.

    Attributes:
        left_out: How many files of the folder are no pictures by their names, by suffix, and "folders".

    Raises:
        InputFileError: There is no picture.
        Unavailable: A picture needs Pillow, and it is not installed.
    """

    dropped = 0

    def __init__(self, path: str | Path, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        entries = _entries(Path(path))
        self._paths = _pictures(Path(path), entries)
        self.left_out = Counter(map(_kind, entries - set(self._paths)))
        self._closed = False
        if any(path.suffix.lower() not in PLAIN_SUFFIXES for path in self._paths):
            require_pillow()

    def __iter__(self) -> Generator[Item, None, None]:
        for index, path in enumerate(self._paths):
            if self._closed:
                return
            try:
                yield Frame(read_image(path), index, self._clock.now_s(), path.name)
            except BadFrames as error:
                yield Refusal(index, path.name, str(error))

    def close(self) -> None:
        self._closed = True


def _entries(path: Path) -> set[Path]:
    try:
        return {path} if path.is_file() else {entry for entry in path.iterdir() if not entry.name.startswith(".")}
    except OSError as error:
        raise InputFileError(f"{path}: cannot be read ({error.strerror or error})") from error


def _pictures(path: Path, entries: set[Path]) -> list[Path]:
    kept = [entry for entry in entries if entry.suffix.lower() in IMAGE_SUFFIXES and entry.is_file()]
    if not kept:
        raise InputFileError(f"{path}: no picture; {_advice(entries)}")
    return sorted(kept, key=in_natural_order)


def _advice(entries: set[Path]) -> str:
    """What to give instead: a stream is often in folders of its own, one a class."""
    folders = sorted((entry for entry in entries if entry.is_dir() and _has_pictures(entry)), key=in_natural_order)
    if not folders:
        return f"names have to end in {', '.join(IMAGE_SUFFIXES)}"
    named = ", ".join(printable(folder.name) for folder in folders[:_NAMED_FOLDERS])
    more = ", ..." if len(folders) > _NAMED_FOLDERS else ""
    return f"folders inside it are not entered, but some have pictures ({named}{more}); give one, as {folders[0]}"


def _has_pictures(folder: Path) -> bool:
    try:
        return any(entry.suffix.lower() in IMAGE_SUFFIXES for entry in folder.iterdir())
    except OSError:
        return False


def _kind(entry: Path) -> str:
    if entry.is_dir():
        return "folders"
    return entry.suffix.lower() or "without a suffix"


def in_natural_order(path: Path) -> tuple[list[tuple[str, int]], str]:
    """A key to sort by, for which `frame-9` comes before `frame-10`."""
    pieces = re.findall(r"([^0-9]*)([0-9]*)", str(path))
    return [(text, int(digits or -1)) for text, digits in pieces], str(path)


PICTURES = SourcePlug(
    shown="a folder of pictures",
    recognises=lambda text: "://" not in text and exists(text),
    opens=lambda text, request: Images(text),
)
