"""Which states there are in a state folder, camera by camera, and what they hold."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ecotta_rt.daemon.saving.snapshot_files import (
    Snapshot,
    camera_folder,
    camera_of,
    is_source,
    read_snapshot,
    snapshots_in,
)
from ecotta_rt.errors import InputFileError, UsageError
from ecotta_rt.state import AdaptState

__all__ = ["CameraStates", "KeptState", "cameras_in", "chosen"]


@dataclass(frozen=True)
class KeptState:
    """A snapshot, and what it holds.

    Attributes:
        snapshot: It.
        state: None where it cannot be gone on from.
        why: It was written.
        refused: Why it cannot be gone on from; "": it can.
        bytes: How long the file is.
    """

    snapshot: Snapshot
    state: AdaptState | None
    why: str
    refused: str
    bytes: int


@dataclass(frozen=True)
class CameraStates:
    """The snapshots of one camera.

    Attributes:
        camera: Its name.
        folder: Where they are.
        network: Digest of the network that is to go on from them; None: that of the newest that can be read.
    """

    camera: str
    folder: Path
    network: str | None = None

    def all(self) -> list[KeptState]:
        """All of them, read, newest first."""
        return list(self._newest_first())

    def newest(self) -> KeptState:
        """The one that the next start goes on from.

        Raises:
            InputFileError: There is none, or none is valid.
        """
        for kept in self._newest_first():
            if kept.state is not None:
                return kept
        raise InputFileError(
            f"{self.folder}: no valid state of {self.camera!r}; `ecotta state list` says what is there"
        )

    def learned(self) -> tuple[str, AdaptState]:
        """What to call the newest one, and what was learned in it, for others to go on from.

        Raises:
            UsageError: It stands for the source.
            InputFileError: As `newest`.
        """
        kept = self.newest()
        assert kept.state is not None
        label = f"{self.camera}, {kept.snapshot}"
        if is_source(kept.state):
            raise UsageError(f"{label}: its owner has let it begin at the source, and nothing is saved since")
        return label, kept.state

    def _newest_first(self) -> Iterator[KeptState]:
        network = self.network
        for snapshot in reversed(snapshots_in(self.folder)):
            kept = _read(snapshot, network)
            network = network or (kept.state.network_digest if kept.state else None)
            yield kept

    def of(self, generation: int) -> KeptState:
        """One of them.

        Raises:
            UsageError: There is none of that generation.
            InputFileError: It cannot be gone on from.
        """
        there = {snapshot.generation: snapshot for snapshot in snapshots_in(self.folder)}
        if generation not in there:
            known = ", ".join(map(str, there)) or "none"
            raise UsageError(f"{self.camera!r} has no generation {generation}; there are: {known}")
        kept = _read(there[generation], self.network)
        if kept.state is None:
            raise InputFileError(kept.refused)
        return kept


def cameras_in(folder: Path, network: str | None = None, known: Sequence[str] = ()) -> list[CameraStates]:
    """The cameras of a state folder; a folder that has snapshots itself is that of one camera.

    Args:
        folder: It.
        network: Digest of the network that is to go on from them.
        known: Cameras that are configured: named even where they have no snapshots yet.
    """
    if snapshots_in(folder):
        return [CameraStates(camera_of(folder), folder, network)]
    folders = {camera_folder(folder, camera): camera for camera in known}
    for inner in sorted(folder.iterdir()) if folder.is_dir() else ():
        if inner.is_dir() and snapshots_in(inner):
            folders.setdefault(inner, camera_of(inner))
    return [CameraStates(camera, inner, network) for inner, camera in folders.items()]


def chosen(cameras: Sequence[CameraStates], name: str | None, where: Path) -> CameraStates:
    """The one camera that is meant.

    Raises:
        UsageError: None of that name, or several and no name.
    """
    names = ", ".join(one.camera for one in cameras) or "none"
    found = [one for one in cameras if name in (None, one.camera)]
    if name is not None and not found:
        raise UsageError(f"--camera {name}: there are no states of it in {where}; cameras there: {names}")
    if len(found) != 1:
        hint = "name one with --camera" if found else "a daemon writes them there, see `ecotta serve`"
        raise UsageError(f"{where} has the states of {len(found)} cameras ({names}); {hint}")
    return found[0]


def _read(snapshot: Snapshot, network: str | None) -> KeptState:
    try:
        size = snapshot.path.stat().st_size
        state, why = read_snapshot(snapshot, network)
    except OSError as error:
        return KeptState(snapshot, None, "", f"{snapshot.path}: cannot be read ({error.strerror or error})", 0)
    except InputFileError as error:
        return KeptState(snapshot, None, "", str(error), size)
    return KeptState(snapshot, state, why, "", size)
