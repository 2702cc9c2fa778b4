"""A zip of the plainest kind: members stored as they are, one behind the other, nothing between and nothing around.

    offset 0    [local header][data] ... [local header][data]  [directory]  [end record]    end of file

Any zip program can unpack such a file. The reader here is stricter than they are: two programs that read a zip by its
local headers and by its directory must see the same files, so what only one of them would notice is refused. Nothing
is compressed, hence reading never needs more memory than the file has bytes, and a member can be memory-mapped.

Source: PKWARE's APPNOTE.TXT 6.3.10, sections 4.3.7, 4.3.12 and 4.3.16. Alignment by an extra field is what Android's
zipalign does; the field's number 0xD935 is its.

Not here: what the members mean.
"""

import stat
import struct
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from ecotta_rt.errors import InputFileError

__all__ = ["ARCHIVE_MARK", "Member", "NewMember", "checksum", "read_directory", "write_stored_zip"]

_LOCAL = struct.Struct("<4s5H3L2H")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_END = struct.Struct("<4s4H2LH")
_EXTRA = struct.Struct("<3H")
_LOCAL_MARK, _CENTRAL_MARK, _END_MARK = b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06"

ARCHIVE_MARK = _LOCAL_MARK
"""What an archive with a file in it begins with."""

_VERSION = 20  # of the zip format: 2.0, what every reader understands
_MIDNIGHT, _1980 = 0, 0x21  # the earliest time a zip can say, so that equal content gives equal bytes
_ALIGNMENT_FIELD = 0xD935
_UTF8_NAMES = 0x0800
_ENCRYPTED = 0x0001 | 0x0040 | 0x2000
_STORED = 0
_MAX_NAME_BYTES = 255


@dataclass(frozen=True)
class Member:
    """One file in a zip.

    Attributes:
        name: Its name, with `/` between folders.
        start: Where its data begins in the zip.
        size: Bytes of data.
        crc32: Checksum that the zip gives for it.
    """

    name: str
    start: int
    size: int
    crc32: int


@dataclass(frozen=True)
class NewMember:
    """One file to be written.

    Attributes:
        name: Its name, ASCII.
        size: Bytes of data.
        crc32: Checksum of the data; it stands before them, so it has to be known.
        pieces: Gives the data, piece by piece.
        alignment: The data begin at a multiple of this in the zip.
    """

    name: str
    size: int
    crc32: int
    pieces: Callable[[], Iterable[bytes | memoryview]]
    alignment: int = 1


def write_stored_zip(file: BinaryIO, members: Sequence[NewMember]) -> None:
    """Write a zip.

    Args:
        file: Open for writing, at its beginning.
        members: What goes into it, in this order.
    """
    position = 0
    directory = b""
    for member in members:
        name = member.name.encode("ascii")
        facts = (_VERSION, 0, _STORED, _MIDNIGHT, _1980, member.crc32, member.size, member.size, len(name))
        extra = _padding(position + _LOCAL.size + len(name), member.alignment)
        directory += _CENTRAL.pack(_CENTRAL_MARK, _VERSION, *facts, 0, 0, 0, 0, 0, position) + name
        file.write(_LOCAL.pack(_LOCAL_MARK, *facts, len(extra)) + name + extra)
        for piece in member.pieces():
            file.write(piece)
        position += _LOCAL.size + len(name) + len(extra) + member.size
    count = len(members)
    file.write(directory + _END.pack(_END_MARK, 0, 0, count, count, len(directory), position, 0))


def read_directory(file: BinaryIO, origin: str, *, max_bytes: int, max_members: int) -> tuple[Member, ...]:
    """List what is in a zip, having compared its directory with every local header.

    Args:
        file: The zip, open for reading.
        origin: Its name, for messages.
        max_bytes: How large the zip may be.
        max_members: How many files may be in it.

    Returns:
        The members in the order of their data. Their checksums have not been compared with the data.

    Raises:
        InputFileError: Not a zip; or not one of this plainest kind; or more than the limits allow.
    """
    file_bytes = file.seek(0, 2)
    if file_bytes > max_bytes:
        raise InputFileError(f"{origin}: {file_bytes} bytes, more than the {max_bytes} allowed")
    directory, count, directory_at = _find_directory(file, origin, file_bytes, max_members)
    members = []
    position = at = 0
    for _ in range(count):
        entry, at = _take_entry(directory, at, origin)
        members.append(_check_local_header(file, entry, position, directory_at, origin))
        position = members[-1].start + members[-1].size
    if at != len(directory):
        raise InputFileError(
            f"{origin}: the directory has {len(directory) - at} bytes after its last entry, expected none"
        )
    if position != directory_at:
        raise InputFileError(f"{origin}: {directory_at - position} bytes between the last member and the directory")
    _refuse_duplicates(members, origin)
    return tuple(members)


def checksum(pieces: Iterable[bytes | memoryview]) -> int:
    """The CRC-32 that zips use."""
    crc32 = 0
    for piece in pieces:
        crc32 = zlib.crc32(piece, crc32)
    return crc32


@dataclass(frozen=True)
class _Entry:
    """What the directory says of a member."""

    name: bytes
    flags: int
    method: int
    crc32: int
    packed_size: int
    size: int
    unix_mode: int
    header_at: int

    @property
    def shown(self) -> str:
        return ascii(self.name.decode("utf-8", "replace"))


def _padding(position: int, alignment: int) -> bytes:
    """The extra field, if one is needed, after which `position` is a multiple of `alignment`."""
    if position % alignment == 0:
        return b""
    length = -(position + _EXTRA.size) % alignment
    return _EXTRA.pack(_ALIGNMENT_FIELD, 2 + length, alignment) + bytes(length)


def _is_padding(extra: bytes) -> bool:
    """Whether this is nothing, or one alignment field with nothing hidden in it."""
    if len(extra) < _EXTRA.size:
        return not extra
    kind, length, _ = _EXTRA.unpack_from(extra)
    return kind == _ALIGNMENT_FIELD and length == len(extra) - 4 and not any(extra[_EXTRA.size :])


def _find_directory(file: BinaryIO, origin: str, file_bytes: int, max_members: int) -> tuple[bytes, int, int]:
    """The directory, its count of entries and its place."""
    file.seek(0)
    if file.read(4) != _LOCAL_MARK:
        raise InputFileError(f"{origin}: does not begin as a zip does; not a bundle")
    end_at = file_bytes - _END.size
    file.seek(max(end_at, 0))
    end = file.read(_END.size)
    if len(end) < _END.size or end[:4] != _END_MARK:
        raise InputFileError(
            f"{origin}: no zip end record in its last {_END.size} bytes: truncated, or bytes after the end"
        )
    _, disk, directory_disk, here, count, size, start, comment_bytes = _END.unpack(end)
    if (disk, directory_disk, here, comment_bytes) != (0, 0, count, 0):
        raise InputFileError(f"{origin}: the zip end record tells of several disks or a comment; expected neither")
    if not 0 < count <= max_members:
        raise InputFileError(f"{origin}: {count} members, expected 1 to {max_members}")
    if start + size != end_at:
        raise InputFileError(
            f"{origin}: the directory is said to end at byte {start + size}, expected {end_at}: truncated?"
        )
    if size > max_members * (_CENTRAL.size + _MAX_NAME_BYTES):
        raise InputFileError(f"{origin}: a directory of {size} bytes, too many for {count} members")
    file.seek(start)
    return file.read(size), count, start


def _take_entry(directory: bytes, at: int, origin: str) -> tuple[_Entry, int]:
    """One entry of the directory, and where the next begins."""
    if len(directory) - at < _CENTRAL.size or directory[at : at + 4] != _CENTRAL_MARK:
        raise InputFileError(f"{origin}: the directory's entry at its byte {at} is damaged")
    fields = _CENTRAL.unpack_from(directory, at)
    _, _, _, flags, method, _, _, crc32, packed_size, size, name_bytes, extra_bytes, comment_bytes = fields[:13]
    attributes, header_at = fields[15:]
    name_at = at + _CENTRAL.size
    after = name_at + name_bytes
    entry = _Entry(directory[name_at:after], flags, method, crc32, packed_size, size, attributes >> 16, header_at)
    if after > len(directory) or not 0 < name_bytes <= _MAX_NAME_BYTES:
        raise InputFileError(f"{origin}: the directory's entry at its byte {at} is damaged")
    if extra_bytes or comment_bytes:  # an extra field may even hold another name
        raise InputFileError(f"{origin}: member {entry.shown} has an extra field or a comment in the directory")
    _refuse_other_kinds(entry, origin)
    return entry, after


def _refuse_other_kinds(entry: _Entry, origin: str) -> None:
    if entry.flags & _ENCRYPTED:
        raise InputFileError(f"{origin}: member {entry.shown} is encrypted; a bundle's members are not")
    if entry.flags & ~_UTF8_NAMES:
        raise InputFileError(f"{origin}: member {entry.shown} has flags {entry.flags:#06x}; expected none")
    if entry.method != _STORED:
        raise InputFileError(
            f"{origin}: member {entry.shown} is compressed (method {entry.method}); a bundle's members are stored"
        )
    if stat.S_IFMT(entry.unix_mode) not in (0, stat.S_IFREG):  # a link would be made where somebody unpacks it
        raise InputFileError(f"{origin}: member {entry.shown} is no plain file (mode {entry.unix_mode:#o})")
    if entry.packed_size != entry.size:
        raise InputFileError(f"{origin}: member {entry.shown} has {entry.packed_size} bytes and claims {entry.size}")


def _check_local_header(file: BinaryIO, entry: _Entry, position: int, end: int, origin: str) -> Member:
    """Compare what stands before a member's data with the directory."""
    if entry.header_at != position:
        raise InputFileError(
            f"{origin}: member {entry.shown} begins at byte {entry.header_at}, expected {position}: "
            "overlapping, out of order or with bytes between"
        )
    file.seek(position)
    header = file.read(_LOCAL.size)
    if position + _LOCAL.size > end or header[:4] != _LOCAL_MARK:
        raise InputFileError(f"{origin}: no local header for member {entry.shown} at byte {position}")
    _, _, flags, method, _, _, crc32, packed_size, size, name_bytes, extra_bytes = _LOCAL.unpack(header)
    said = (flags, method, crc32, packed_size, size, file.read(name_bytes))
    extra = file.read(extra_bytes)
    listed = (entry.flags, entry.method, entry.crc32, entry.packed_size, entry.size, entry.name)
    if said != listed:
        raise InputFileError(f"{origin}: member {entry.shown}: its local header and the directory disagree")
    if not _is_padding(extra):
        raise InputFileError(f"{origin}: member {entry.shown} has an extra field that is more than padding")
    start = position + _LOCAL.size + name_bytes + extra_bytes
    if start + size > end:
        raise InputFileError(
            f"{origin}: member {entry.shown} would reach to byte {start + size}, beyond the last member's end at {end}"
        )
    return Member(_name(entry, origin), start, size, crc32)


def _name(entry: _Entry, origin: str) -> str:
    """The name, if it leads nowhere else when the zip is unpacked."""
    name = entry.name.decode("ascii", "replace")
    parts = name.split("/")
    if not (name.isascii() and name.isprintable()) or "\\" in name or ":" in name:
        raise InputFileError(
            f"{origin}: member {entry.shown}: expected a name of plain ASCII letters, without \\ and :"
        )
    if any(part in ("", ".", "..") for part in parts):
        raise InputFileError(f"{origin}: member {entry.shown}: a name that leads out of the folder, or names none")
    return name


def _refuse_duplicates(members: Sequence[Member], origin: str) -> None:
    seen: set[str] = set()
    for member in members:
        if member.name.lower() in seen:  # on some systems Weights.bin and weights.bin are one file
            raise InputFileError(f"{origin}: member {member.name!r} is there twice")
        seen.add(member.name.lower())
