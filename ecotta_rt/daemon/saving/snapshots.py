"""Generations of one camera's adapted state on the disk: the newest valid one counts.

    snapshots = Snapshots(camera_folder("/var/lib/ecotta", "door"), engine.state.network_digest)
    found = snapshots.newest(engine.restore)        # what it went on from, and what was refused
    snapshots.write(engine.state, "every 300 s")

A file is a plain adapted state, so `ecotta run --state` and `ecotta inspect` read it too. Its name says the rest: see
`snapshot_files`.

Generations order the files, not the clock: a board without a battery begins each day in 1970. Files of other networks,
and of other names, are never touched. A state without any array stands for the source, where an owner has begun anew.

One writer at a time: see `folder_locked`. Nothing here is for several threads at once.
"""

import contextlib
import os
import stat
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ecotta_rt.daemon.saving.snapshot_files import (
    BEFORE_RESET,
    GOOD,
    Snapshot,
    foreign,
    is_source,
    new_snapshot,
    read_snapshot,
    snapshots_in,
)
from ecotta_rt.errors import InputFileError, TransferError, UsageError
from ecotta_rt.files.atomic import write_atomic
from ecotta_rt.files.lock import locked
from ecotta_rt.files.temporary import remove_stale
from ecotta_rt.state import MOST_BYTES, AdaptState, FramesBehind

__all__ = ["Found", "Refused", "Snapshots", "folder_locked"]

_FAMILY = "snapshot"
_STOP_IT = "stop it first (systemctl stop ecotta), or name another state folder"


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
            raise UsageError(foreign(state.network_digest, self.network_digest))
        found = self.listed()
        generation = max((snapshot.generation for snapshot in found), default=0) + 1
        new, content = new_snapshot(self.folder, state, generation, why, self._wall_s())
        write_atomic(new.path, content, family=_FAMILY)
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

    def keep_before_reset(self) -> Snapshot | None:
        """Pin what was learned, since the stream begins anew: the last good one while there is doubt, else the newest.

        One is kept so: that with the most frames behind it. However often somebody resets, what took long stays.

        Returns:
            The one that was pinned now, under its new name; None: all is as it was.

        Raises:
            TransferError: It cannot be renamed.
        """
        before = self.pinned(BEFORE_RESET)
        learned = self.pinned(GOOD)
        if learned.snapshot is None:
            learned = self._find([one for one in self.listed() if not one.pin])
        if learned.snapshot is None or learned.state is None:
            return None
        if before.state is not None and _frames(before.state) >= _frames(learned.state):
            return None
        new = self.pin(learned.snapshot, BEFORE_RESET)
        for snapshot in self.listed():
            if snapshot.pin == BEFORE_RESET and snapshot.network == new.network and snapshot != new:
                self.pin(snapshot, "")
        return new

    def pin(self, snapshot: Snapshot, pin: str) -> Snapshot:
        """Keep a snapshot whatever comes after it, or with "" no longer; returns it under its new name.

        Raises:
            TransferError: It cannot be renamed; has it been removed?
        """
        path = snapshot.path_with(pin)
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
    return locked(Path(folder) / "snapshots", wait_s, hint, by="a daemon", told=folder)


def _frames(state: AdaptState) -> int:
    return FramesBehind.begun_from(state.metadata).followed or 0  # what others have seen is not lost with this file
