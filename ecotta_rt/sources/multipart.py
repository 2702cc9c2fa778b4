"""Cut a stream of parts into its parts, as cameras send pictures over HTTP: `multipart/x-mixed-replace`.

Sources: RFC 2046, section 5.1, and what cameras make of it. Some give the boundary with its dashes, end lines with a
line feed alone, leave `Content-Length` out, or end a body with no line break.

Whoever sends may be hostile, so nothing is without a limit: not the text before the first part, nor a part's headers,
nor a part, nor the time it takes.
"""

import re
from collections.abc import Callable, Generator

from ecotta_rt.errors import Unavailable

__all__ = ["MOST_PART_BYTES", "boundary_of", "parts_of"]

MOST_PART_BYTES = 1 << 25
"""Longest part that is read: 32 MiB."""

_MOST_PREAMBLE_BYTES = 1 << 16
_MOST_HEADER_BYTES = 1 << 13
_MOST_BOUNDARY = 200
_PART_S = 60.0

_BOUNDARY = re.compile(r';\s*boundary\s*=\s*(?:"([^"]{1,200})"|([^\s;"]{1,200}))', re.I)
_LENGTH = re.compile(rb"^content-length[ \t]*:[ \t]*([0-9]{1,10})[ \t]*\r?$", re.I | re.M)
_BLANK_LINE = re.compile(rb"\r?\n\r?\n")


def boundary_of(content_type: str) -> bytes:
    """The boundary between parts, without the dashes before it.

    Args:
        content_type: The header `Content-Type`.

    Raises:
        Unavailable: It names none.

    >>> boundary_of('multipart/x-mixed-replace; boundary="--frame"')
    b'frame'
    """
    found = _BOUNDARY.search(content_type[: 4 * _MOST_BOUNDARY])
    boundary = (found[1] or found[2]).lstrip("-") if found else ""
    if not boundary:
        raise Unavailable(f"its Content-Type names no boundary between pictures: {content_type[:80]!a}")
    return boundary.encode("latin-1", "replace")


def parts_of(read: Callable[[], bytes], boundary: bytes, now_s: Callable[[], float]) -> Generator[bytes, None, None]:
    """The bodies of the parts, one after the other, until the stream ends.

    Args:
        read: What has come since it was called last, at least a byte; b"" at the end.
        boundary: As `boundary_of` has it.
        now_s: The time, in seconds of any clock that does not go back.

    Raises:
        Unavailable: Something is longer than its limit, or takes longer.
    """
    incoming = _Incoming(read, now_s)
    delimiter = re.compile(rb"--" + re.escape(boundary))
    while incoming.until(delimiter, _MOST_PREAMBLE_BYTES, "no boundary") is not None:
        incoming.begin()
        headers = incoming.until(_BLANK_LINE, _MOST_HEADER_BYTES, "headers of a picture")
        if headers is None or headers.startswith(b"--"):  # the last boundary
            return
        length = _LENGTH.search(headers)
        if length is None:
            body = incoming.until(delimiter, MOST_PART_BYTES, "a picture", keep=True)
        else:
            body = incoming.exactly(int(length[1]))
        if body is None:
            return
        yield body


class _Incoming:
    """Bytes that have come and were not used yet."""

    def __init__(self, read: Callable[[], bytes], now_s: Callable[[], float]) -> None:
        self._read = read
        self._now_s = now_s
        self._begun_s = now_s()
        self._bytes = bytearray()

    def begin(self) -> None:
        """A part begins here, and is to be whole in time."""
        self._begun_s = self._now_s()

    def until(self, mark: re.Pattern[bytes], most: int, what: str, *, keep: bool = False) -> bytes | None:
        """What stands before a mark, which is taken too unless it is to be kept; None where the stream ends first."""
        start = 0
        while (found := mark.search(self._bytes, start)) is None:
            if len(self._bytes) > most:
                raise Unavailable(f"{what} in {most} bytes, the most we read")
            start = max(0, len(self._bytes) - _MOST_BOUNDARY - 4)
            if not self._more():
                return None
        if found.start() > most:
            raise Unavailable(f"{what} in {most} bytes, the most we read")
        return self._take(found.start(), found.start() if keep else found.end())

    def exactly(self, count: int) -> bytes | None:
        """So many bytes; None where the stream ends first."""
        if count > MOST_PART_BYTES:
            raise Unavailable(f"a picture of {count} bytes is announced, more than {MOST_PART_BYTES}, the most we read")
        while len(self._bytes) < count:
            if not self._more():
                return None
        return self._take(count, count)

    def _take(self, count: int, drop: int) -> bytes:
        taken = bytes(self._bytes[:count])
        del self._bytes[:drop]
        return taken

    def _more(self) -> bool:
        if self._now_s() - self._begun_s > _PART_S:
            raise Unavailable(f"a picture took longer than {_PART_S:g} s")
        new = self._read()
        self._bytes += new
        return bool(new)
