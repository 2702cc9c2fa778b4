"""Open a bundle that a stranger may have made.

What is checked when: container, manifest and the digest of the weights at once; a graph and the initial state when
they are asked for, so that a device pays for the one graph it runs.
"""

import difflib
import mmap
import os
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from ecotta_rt.bundle.fixing import allows_constants
from ecotta_rt.bundle.graph_check import WEIGHTS, check_entry, check_graph
from ecotta_rt.bundle.manifest import MAX_GRAPHS, MAX_MANIFEST_BYTES, Manifest
from ecotta_rt.bundle.relocate import relocate
from ecotta_rt.bundle.tables import TABLES, Table, most_table_bytes, read_tables
from ecotta_rt.bundle.weight_bytes import WeightBytes
from ecotta_rt.bundle.writing import MANIFEST, MAX_BUNDLE_BYTES, PAGE_BYTES, STATE
from ecotta_rt.errors import InputFileError, UsageError
from ecotta_rt.files.digest import sha256
from ecotta_rt.files.kinds import open_regular
from ecotta_rt.files.onnx_reader import read_model
from ecotta_rt.files.stored_zip import Member, checksum, read_directory
from ecotta_rt.state import MAX_HEADER_BYTES, AdaptState

__all__ = ["Bundle", "read_bundle"]

_PIECE_BYTES = 1 << 20


class Bundle:
    """An opened bundle. It is memory-mapped: what nobody looks at costs no memory.

    Attributes:
        path: The file, as it was named.
        file: The file itself: absolute, links followed, whatever folder becomes the working one later.
        manifest: What it says of itself.
        bytes: Its size.
        members: Where each member lies in it, by name, in order.
    """

    def __init__(
        self,
        path: Path,
        manifest: Manifest,
        members: Mapping[str, Member],
        mapped: mmap.mmap,
        opened: os.stat_result,
    ) -> None:
        self.path = path
        self.file = path.resolve()
        self.manifest = manifest
        self.bytes = len(mapped)
        self.members = members
        self._mapping = mapped
        self._mapped = np.frombuffer(mapped, np.uint8)
        self._identity = _identity(opened)
        self._weights = {entry.name: entry for entry in manifest.weights}
        self._checked: set[str] = set()
        self._allowed: dict[tuple[str, frozenset[str]], bool] = {}

    def graph(self, name: str) -> bytes:
        """The ONNX file of a graph. Its external tensors are those of `weights()`, under the same names.

        Raises:
            UsageError: There is no such graph.
            InputFileError: It is not what the manifest says, or asks for other operators or files than it may.
        """
        entry = self.manifest.graph(name)
        if entry is None:
            known = [graph.name for graph in self.manifest.graphs]
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]}?" if near else "."
            raise UsageError(f"{self.path}: no graph {name!r}{hint} It has: {', '.join(known)}")
        content = self._read(entry.member, entry.sha256)
        if name not in self._checked:  # the digest says that it is still what was found good
            origin = f"{self.path}, {entry.member}"
            check_entry(check_graph(content, self._weights, origin), entry, origin)
            self._checked.add(name)
        return content

    def mapped(self, name: str) -> memoryview:
        """The bytes of a member as they lie in the file, not compared with any digest."""
        member = self.members[name]
        return self._mapped[member.start : member.start + member.size].data

    def allows_constants(self, name: str, inputs: Collection[str]) -> bool:
        """Whether these inputs of a graph may be constants of it, see `ecotta_rt.bundle.fixing`; raises as `graph`."""
        asked = (name, frozenset(inputs))
        if asked not in self._allowed:  # asked whenever a session is opened anew, for a graph that stays the same
            model = read_model(self.graph(name), f"{self.path}, graph {name!r}")
            self._allowed[asked] = allows_constants(model, inputs)
        return self._allowed[asked]

    def relocated_graph(self, name: str) -> bytes:
        """As `graph`, its external tensors pointing into the bundle file itself: see `relocate`.

        For onnxruntime with `session.model_external_initializers_file_folder_path` set to the folder of `file`.
        """
        return relocate(self.graph(name), self.file.name, self.members[WEIGHTS].start)

    def require_unreplaced(self) -> None:
        """Refuse to go on when `file` is another one by now: the graph would be of the old, the weights of the new.

        Raises:
            InputFileError: It was replaced, changed or removed.
        """
        try:
            now = _identity(os.stat(self.file))
        except OSError as error:
            raise InputFileError(
                f"{self.path}: was removed while it was open ({error.strerror}); put it back and load it again"
            ) from error
        if now != self._identity:
            raise InputFileError(f"{self.path}: was replaced while it was open; load it again")

    def weights(self) -> Mapping[str, NDArray[np.float32]]:
        """The arrays of `weights.bin` by name: read-only views of the mapped file, no copies."""
        start = self.members[WEIGHTS].start
        return MappingProxyType(
            {
                entry.name: self._mapped[start + entry.offset : start + entry.offset + entry.bytes]
                .view("<f4")
                .reshape(entry.shape)
                for entry in self.manifest.weights
            }
        )

    def initial_state(self) -> AdaptState:
        """The state to begin with.

        Raises:
            InputFileError: It is not what the manifest says, no state, or one of another network or layout.
        """
        origin = f"{self.path}, {STATE}"
        state = AdaptState.from_bytes(self._read(STATE, self.manifest.state_sha256), origin)
        if state.network_digest != self.manifest.network_digest:
            raise InputFileError(
                f"{origin}: belongs to network {state.network_digest[:80]!r}, "
                f"and the manifest is of {self.manifest.network_digest!r}"
            )
        try:
            self.manifest.layout.pack(state)
        except InputFileError as error:
            raise InputFileError(f"{origin}: {error}") from error
        return state

    def tables(self) -> dict[str, Table]:
        """The arrays that the manifest's `adaptation` needs, by name; none where it needs none.

        Raises:
            InputFileError: They are not what the manifest says.
        """
        if not self.manifest.tables:
            return {}
        content = self._read(TABLES, self.manifest.tables_sha256)
        return read_tables(content, self.manifest.tables, f"{self.path}, {TABLES}")

    def _read(self, name: str, expected: str) -> bytes:
        member = self.members[name]
        content = self._mapped[member.start : member.start + member.size].tobytes()
        self._forget(member)
        _check_digests(f"{self.path}, {name}", member, checksum([content]), sha256(content).hexdigest(), expected)
        return content

    def _forget(self, member: Member) -> None:
        """Let go of the pages of a member that has been copied: they would count as the process's memory for ever."""
        if hasattr(mmap, "MADV_DONTNEED"):
            start = member.start - member.start % mmap.PAGESIZE
            self._mapping.madvise(mmap.MADV_DONTNEED, start, member.start + member.size - start)


def read_bundle(path: str | os.PathLike[str], *, verify: bool = True) -> Bundle:
    """Open a bundle.

    Args:
        path: The file.
        verify: Compare the weights with their digest and refuse NaN and infinity, which reads them once, a megabyte at
            a time. Without it a damaged weight goes unnoticed; graphs and state are compared in any case.

    Raises:
        InputFileError: It cannot be read, is no bundle, is damaged, or breaks a rule of docs/bundle-format.md; the
            message names file, member, value and limit.
    """
    path = Path(path)
    try:
        if not path.exists():
            raise InputFileError(f"{path}: no such file")
        with open_regular(path) as file:
            listed = read_directory(file, str(path), max_bytes=MAX_BUNDLE_BYTES, max_members=MAX_GRAPHS + 4)
            manifest = _read_manifest(file, listed[0], path)
            members = _expected_members(listed, manifest, path)
            if verify:
                _verify_weights(file, members[WEIGHTS], manifest, path)
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            opened = os.fstat(file.fileno())
    except OSError as error:
        raise InputFileError(f"{path}: cannot be read ({error.strerror or error})") from error
    return Bundle(path, manifest, members, mapped, opened)


def _identity(status: os.stat_result) -> tuple[int, int, int, int]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _read_manifest(file: BinaryIO, first: Member, path: Path) -> Manifest:
    if first.name != MANIFEST:
        raise InputFileError(f"{path}: its first member is {first.name!r}, expected {MANIFEST}")
    if first.size > MAX_MANIFEST_BYTES:
        raise InputFileError(
            f"{path}, {MANIFEST}: {first.size} bytes, more than the {MAX_MANIFEST_BYTES} of a manifest"
        )
    file.seek(first.start)
    content = file.read(first.size)
    if zlib.crc32(content) != first.crc32:
        raise InputFileError(f"{path}, {MANIFEST}: its checksum does not match: damaged")
    return Manifest.from_json(content, f"{path}, {MANIFEST}")


def _expected_members(listed: Sequence[Member], manifest: Manifest, path: Path) -> dict[str, Member]:
    """The members by name, if they are those that the manifest promises."""
    members = {member.name: member for member in listed}
    sizes = {entry.member: entry.bytes for entry in manifest.graphs} | {WEIGHTS: manifest.weights_bytes}
    most_tables = most_table_bytes(manifest.tables)
    others = (MANIFEST, STATE, TABLES) if most_tables else (MANIFEST, STATE)
    for name in (*sizes, *others):
        if name not in members:
            raise InputFileError(f"{path}: member {name!r} is missing")
    for name, member in members.items():
        if name not in sizes and name not in others:
            raise InputFileError(f"{path}: member {name!r} is not in the manifest")
        if member.size != sizes.get(name, member.size):
            raise InputFileError(f"{path}, {name}: {member.size} bytes, and the manifest says {sizes[name]}")
    layout = manifest.layout
    most = 4 * (2 * layout.parameter_count + layout.statistic_count) + MAX_HEADER_BYTES
    if members[STATE].size > most:
        raise InputFileError(
            f"{path}, {STATE}: {members[STATE].size} bytes, more than the {most} that a state of this layout can have"
        )
    if most_tables and members[TABLES].size > most_tables:
        raise InputFileError(
            f"{path}, {TABLES}: {members[TABLES].size} bytes, more than the {most_tables} that such tables can have"
        )
    if members[WEIGHTS].start % PAGE_BYTES:
        raise InputFileError(
            f"{path}, {WEIGHTS}: begins at byte {members[WEIGHTS].start}, no multiple of {PAGE_BYTES}; "
            "was the bundle packed anew by a zip program?"
        )
    return members


def _verify_weights(file: BinaryIO, member: Member, manifest: Manifest, path: Path) -> None:
    origin = f"{path}, {WEIGHTS}"
    digest, crc32, content = sha256(), 0, WeightBytes(manifest.weights, origin)
    problem = None
    for piece in _pieces(file, member):
        digest.update(piece)
        crc32 = zlib.crc32(piece, crc32)
        try:
            content.take(piece)
        except InputFileError as error:
            problem = problem or error
    _check_digests(origin, member, crc32, digest.hexdigest(), manifest.weights_sha256)
    if problem is not None:  # damage is the better reason
        raise problem


def _pieces(file: BinaryIO, member: Member) -> Iterator[memoryview]:
    # Read, not mapped: pages of a mapping count as the process's memory, and a buffer that is used again does not grow.
    buffer = memoryview(bytearray(_PIECE_BYTES))
    file.seek(member.start)
    left = member.size
    while left:
        count = file.readinto(buffer[: min(left, _PIECE_BYTES)])  # type: ignore[attr-defined]
        if not count:
            return  # it shrank while we read: the digest will tell
        yield buffer[:count]
        left -= count


def _check_digests(origin: str, member: Member, crc32: int, sha256: str, expected: str) -> None:
    if sha256 != expected:
        raise InputFileError(f"{origin}: its SHA-256 is {sha256}, and the manifest says {expected}: damaged or changed")
    if crc32 != member.crc32:
        raise InputFileError(f"{origin}: its checksum in the zip does not match, others could not unpack it")
