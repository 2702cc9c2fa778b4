"""Generations of one camera's adapted state on the disk: the newest valid one counts.

    snapshots = Snapshots(camera_folder("/var/lib/ecotta", "door"), engine.state.network_digest)
    found = snapshots.newest(engine.restore)        # what it went on from, and what was refused
    snapshots.write(engine.state, "every 300 s")

A file is a plain adapted state, so `ecotta run --state` and `ecotta inspect` read it too. Its name says the rest:

    00000042-20261129T012345Z-abababababab-0123456789abcdef.safetensors
    generation, wall clock (UTC), network, SHA-256 of the content; `.good` or `.before-reset` before the suffix: pinned

Generations order the files, not the clock: a board without a battery begins each day in 1970. Files of other networks,
and of other names, are never touched. A state without any array stands for the source, where an owner has begun anew.

One writer at a time: see `folder_locked`. Nothing here is for several threads at once.
"""

import contextlib
import os
import re
import stat
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ecotta_rt.errors import InputFileError, TransferError, UsageError
from ecotta_rt.files.atomic import write_atomic
from ecotta_rt.files.digest import sha256
from ecotta_rt.files.lock import locked
from ecotta_rt.files.temporary import remove_stale
from ecotta_rt.state import MOST_BYTES, AdaptState, state_content

__all__ = [
    "BEFORE_RESET",
    "GOOD",
    "Found",
    "Refused",
    "Snapshot",
    "Snapshots",
    "camera_folder",
    "camera_of",
    "folder_locked",
    "is_source",
    "read_snapshot",
    "snapshots_in",
]

GOOD = "good"
"""A pin: the last good one, while newer ones are in doubt."""

BEFORE_RESET = "before-reset"
"""A pin: what was learned before somebody let the camera begin anew."""

_NAME = re.compile(
    rf"(\d{{8,}})-(\d{{8}}T\d{{6}}Z)-([0-9a-f]{{12}})-([0-9a-f]{{16}})(?:\.({GOOD}|{BEFORE_RESET}))?\.safetensors",
    re.ASCII,
)
_TIME = "%Y%m%dT%H%M%SZ"
_FAMILY = "snapshot"
_OURS = ("snapshot.why", "snapshot.time")
_PLAIN = re.compile(r"[^\w.-]|^\.")
_QUOTED = re.compile(rb"(%[0-9A-F]{2})")
_STOP_IT = "stop it first (systemctl stop ecotta), or name another state folder"
_LONGEST_FOLDER = 200
"""Bytes; file systems have room for 255."""


@dataclass(frozen=True, order=True)
class Snapshot:
    """One generation, as its file's name tells it; the order is that of generations.

    Attributes:
        generation: From 1.
        time: By the wall clock when it was written, as `20261129T012345Z`.
        name: Of the file.
        path: The file.
        network: The first 12 digits of its network's digest.
        sha256: The first 16 of its content's.
        pin: Why it stays whatever comes after it, `GOOD` or `BEFORE_RESET`; "": it does not.
    """

    generation: int
    time: str
    name: str
    path: Path
    network: str
    sha256: str
    pin: str

    def __str__(self) -> str:
        return f"generation {self.generation}"


@dataclass(frozen=True)
class Refused:
    """A snapshot that cannot be gone on from, and why in a sentence."""

    snapshot: Snapshot
    why: str


@dataclass(frozen=True)
class Found:
    """What there is to go on from.

    Attributes:
        snapshot: The newest valid one; None: there is none, so the source.
        state: What it holds; None: the source, as it has no arrays or there is none.
        refused: Newer ones that cannot be used, newest first: to be told loudly.
    """

    snapshot: Snapshot | None
    state: AdaptState | None
    refused: tuple[Refused, ...]

    def lines(self) -> list[str]:
        """What people should be told: a line for each refused one, and one for what it came to."""
        told = [f"warning: not used: {refused.why}" for refused in self.refused]
        if self.snapshot is None:
            return [*told, "going on from the source: no other snapshot is left"] if told else []
        after = ", an older one" if told else ""
        said = "the source, as an owner asked" if self.state is None else self.snapshot.path
        return [*told, f"going on from {said}{after} ({self.snapshot})"]


class Snapshots:
    """The snapshots of one camera and one network.

    Args:
        folder: Theirs alone; made when the first one is written.
        network_digest: Of the network; states of another one are refused and left alone.
        generations: How many are kept, at least 1; pinned ones beside them.
        wall_s: The wall clock: seconds since 1970.
        most_bytes: A longer file is refused before it is read: see `AdaptState.most_file_bytes`.

    Raises:
        UsageError: A number out of range.
    """

    def __init__(
        self,
        folder: str | Path,
        network_digest: str,
        generations: int = 5,
        *,
        wall_s: Callable[[], float] = time.time,
        most_bytes: int = MOST_BYTES,
    ) -> None:
        if generations < 1:
            raise UsageError(f"{generations} generations: keep 1 or more")
        self.folder = Path(folder)
        self.network_digest = network_digest
        self._generations = generations
        self._wall_s = wall_s
        self._most_bytes = most_bytes
        self._damaged: set[str] = set()

    def write(self, state: AdaptState, why: str) -> Snapshot:
        """Write the next generation, whole or not at all, and remove those that are one too many.

        Args:
            state: Of this network.
            why: It is written, in a few words; kept with it.

        Returns:
            The new one, which is on the disk now.

        Raises:
            UsageError: It is of another network, or holds NaN or infinity.
            TransferError: It cannot be written; all is as it was.
        """
        if state.network_digest != self.network_digest:
            raise UsageError(_foreign(state.network_digest, self.network_digest))
        moment = time.gmtime(self._wall_s())
        said = {"snapshot.why": why, "snapshot.time": time.strftime("%Y-%m-%dT%H:%M:%SZ", moment)}
        content = replace(state, metadata={**state.metadata, **said}).to_bytes()
        found = self.listed()
        generation = max((snapshot.generation for snapshot in found), default=0) + 1
        digest = sha256(content).hexdigest()[:16]
        name = f"{generation:08d}-{time.strftime(_TIME, moment)}-{self.network_digest[:12]}-{digest}.safetensors"
        write_atomic(self.folder / name, content, family=_FAMILY)
        new = _parsed(self.folder / name)
        assert new is not None
        self._prune([*found, new])
        return new

    def write_source(self, why: str) -> Snapshot:
        """Let the next start begin at the source; the others stay until they are too many. Raises as `write`."""
        return self.write(AdaptState({}, {}, {}, self.network_digest), why)

    def newest(self, take_up: Callable[[AdaptState], Any] = lambda state: None) -> Found:
        """The newest one that can be gone on from; what killed runs have left, half-written or too many, is removed.

        Args:
            take_up: Goes on from a state, as `Runtime.restore` does; where it raises `InputFileError` an older one is
                tried. Not called for the source.

        Returns:
            What it came to. Nothing is raised: a folder that cannot be read is one without snapshots.
        """
        remove_stale(self.folder / _FAMILY)
        found = self._find(self.listed(), take_up)
        if found.snapshot is not None:
            self._prune(self.listed())
        return found

    def pinned(self, pin: str) -> Found:
        """The newest valid one of those with a pin."""
        return self._find([one for one in self.listed() if one.pin == pin])

    def _find(self, among: list[Snapshot], take_up: Callable[[AdaptState], Any] = lambda state: None) -> Found:
        refused: list[Refused] = []
        for snapshot in reversed(among):
            try:
                state = self._noted(snapshot)
                if not is_source(state):
                    take_up(state)
            except InputFileError as error:
                refused.append(Refused(snapshot, str(error)))
            else:
                return Found(snapshot, None if is_source(state) else state, tuple(refused))
        return Found(None, None, tuple(refused))

    def listed(self) -> list[Snapshot]:
        """As `snapshots_in` of its folder."""
        return snapshots_in(self.folder)

    def read(self, snapshot: Snapshot) -> AdaptState:
        """The state in a snapshot, as it was written.

        Raises:
            InputFileError: As `read_snapshot`.
        """
        return read_snapshot(snapshot, self.network_digest, self._most_bytes)[0]

    def keep_before_reset(self) -> None:
        """Pin what was learned, since the stream begins anew: the last good one while there is doubt, else the newest.

        One is kept so: that with the most frames behind it. However often somebody resets, what took long stays.

        Raises:
            TransferError: It cannot be renamed.
        """
        before = self.pinned(BEFORE_RESET)
        learned = self.pinned(GOOD)
        if learned.snapshot is None:
            learned = self._find([one for one in self.listed() if not one.pin])
        if learned.snapshot is None or learned.state is None:
            return
        if before.state is not None and _frames(before.state) >= _frames(learned.state):
            return
        new = self.pin(learned.snapshot, BEFORE_RESET)
        for snapshot in self.listed():
            if snapshot.pin == BEFORE_RESET and snapshot.network == new.network and snapshot != new:
                self.pin(snapshot, "")

    def pin(self, snapshot: Snapshot, pin: str) -> Snapshot:
        """Keep a snapshot whatever comes after it, or with "" no longer; returns it under its new name.

        Raises:
            TransferError: It cannot be renamed; has it been removed?
        """
        stem = snapshot.name.removesuffix(".safetensors").removesuffix(f".{snapshot.pin}")
        path = snapshot.path.with_name(f"{stem}{pin and f'.{pin}'}.safetensors")
        try:
            os.rename(snapshot.path, path)
        except OSError as error:
            raise TransferError(f"{snapshot.path} cannot be renamed: {error.strerror or error}") from error
        return replace(snapshot, name=path.name, path=path, pin=pin)

    def _noted(self, snapshot: Snapshot) -> AdaptState:
        """As `read`, and what is damaged is kept in mind: it does not count as a generation."""
        try:
            return self.read(snapshot)
        except InputFileError:
            self._damaged.add(snapshot.name)
            raise

    def _prune(self, found: list[Snapshot]) -> None:
        """Remove what is older than the generations to keep; what is known to be damaged does not count as one."""
        ours = [one for one in found if one.network == self.network_digest[:12] and not one.pin]
        good = sorted(one for one in ours if one.name not in self._damaged)
        if len(good) < self._generations:
            return
        for snapshot in ours:
            if snapshot < good[-self._generations]:
                with contextlib.suppress(OSError):  # it is tried again after the next write
                    if stat.S_ISREG(os.lstat(snapshot.path).st_mode):
                        os.unlink(snapshot.path)


def snapshots_in(folder: str | Path) -> list[Snapshot]:
    """All there are of one camera, oldest first, by their names alone; those of several networks.

    A folder that is not there or cannot be read has none.
    """
    folder = Path(folder)
    try:
        names = os.listdir(folder)
    except OSError:
        return []
    return sorted(found for name in names if (found := _parsed(folder / name)) is not None)


def read_snapshot(
    snapshot: Snapshot, network: str | None = None, most_bytes: int = MOST_BYTES
) -> tuple[AdaptState, str]:
    """The state in a snapshot, and why it was written.

    Args:
        snapshot: It.
        network: Digest of the network that is to go on from it; None: any.
        most_bytes: A longer file is refused before it is read.

    Raises:
        InputFileError: It is damaged, truncated, no regular file, of another network, or cannot be read.
    """
    if network is not None and snapshot.network != network[:12]:
        raise InputFileError(f"{snapshot.path}: {_foreign(snapshot.network, network)}")
    content = state_content(snapshot.path, most_bytes)
    if (digest := sha256(content).hexdigest()[:16]) != snapshot.sha256:
        raise InputFileError(
            f"{snapshot.path}: damaged: its {len(content)} bytes have SHA-256 {digest}..., and were written with "
            f"{snapshot.sha256}...; is the card failing?"
        )
    state = AdaptState.from_bytes(content, str(snapshot.path))
    if network is not None and state.network_digest != network:
        raise InputFileError(f"{snapshot.path}: {_foreign(state.network_digest, network)}")
    metadata = dict(state.metadata)
    why, _ = (metadata.pop(name, "") for name in _OURS)
    return replace(state, metadata=metadata), why


def is_source(state: AdaptState) -> bool:
    """Whether a state has no arrays, and so stands for the network's own one."""
    return not (state.parameters or state.momentum or state.statistics or state.adaptation)


def camera_folder(folder: str | Path, camera: str) -> Path:
    """Where a camera's snapshots are below the state folder: a name for each camera, whatever it holds.

    >>> camera_folder("/var/lib/ecotta", "door 1/2").name
    'door%201%2F2'
    """
    name = _PLAIN.sub(lambda match: "".join(f"%{byte:02X}" for byte in _bytes(match[0])), camera) or "%"
    if len(_bytes(name)) > _LONGEST_FOLDER:
        name = f"%{sha256(_bytes(camera)).hexdigest()}"
    return Path(folder) / name


def camera_of(folder: Path) -> str:
    """The camera whose snapshots are in a folder, or the folder's own name where that cannot be told.

    >>> camera_of(Path("/var/lib/ecotta/door%201%2F2"))
    'door 1/2'
    """
    try:
        parts = _QUOTED.split(folder.name.encode())
        return b"".join(bytes.fromhex(part[1:].decode()) if part[:1] == b"%" else part for part in parts).decode()
    except ValueError:  # also where the name is no UTF-8, or a digest
        return folder.name


def folder_locked(folder: str | Path, hint: str = _STOP_IT, wait_s: float = 0.0) -> AbstractContextManager[None]:
    """Keep other daemons, and commands that change snapshots, from a state folder while the block runs.

    Args:
        folder: That of all cameras; it must exist.
        hint: What to try where another process has it.
        wait_s: Seconds to wait for that one to be done.

    Raises:
        UsageError: Another process has it; the message names it.
        TransferError: The lock cannot be made.
    """
    return locked(Path(folder) / "snapshots", wait_s, hint)


def _foreign(digest: str, ours: str) -> str:
    return f"belongs to network {digest[:12]}, and this one is {ours[:12]}"


def _frames(state: AdaptState) -> int:
    return state.behind.followed or 0


def _parsed(path: Path) -> Snapshot | None:
    match = _NAME.fullmatch(path.name)
    if match is None:
        return None
    return Snapshot(int(match[1]), match[2], path.name, path, match[3], match[4], match[5] or "")


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
