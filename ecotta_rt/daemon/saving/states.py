"""The states of all cameras on the disk: taken up at the start, kept while they move, and kept at the end."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Self

from ecotta_rt.daemon.configuration.tables import StateOptions
from ecotta_rt.daemon.feed import Feed
from ecotta_rt.daemon.outbox import Outbox
from ecotta_rt.daemon.saving.keeper import Keeper
from ecotta_rt.daemon.saving.snapshot_files import camera_folder
from ecotta_rt.daemon.saving.snapshots import Snapshots, folder_locked
from ecotta_rt.daemon.saving.writer import Writer
from ecotta_rt.errors import TransferError
from ecotta_rt.events import Event, GuardStep
from ecotta_rt.machine.clock import Clock
from ecotta_rt.state import MAX_HEADER_BYTES, AdaptState

__all__ = ["OwnFolder", "States"]

Say = Callable[[str], None]

_MIB = 2**20


class OwnFolder:
    """A state folder, from which other daemons are kept while the block runs.

    One that cannot be used at its beginning, such as a disk that comes later, is told of, and tried again by `require`.

    Args:
        path: It; made where it is not there.
        say: Tells people something in a line.
        wait_s: Seconds to wait at the beginning for another process to be done: a command has it for a moment.

    Attributes:
        trouble: Why it could not be used at the beginning; "": it can.

    Raises:
        UsageError: Another process has it.
    """

    def __init__(self, path: Path, say: Say, wait_s: float = 2.0) -> None:
        self.path = path
        self._say, self._wait_s = say, wait_s
        self._lock: AbstractContextManager[None] | None = None
        self._hangs = False
        self.trouble = ""

    def __enter__(self) -> Self:
        try:
            self.require(self._wait_s)
        except TransferError as error:
            self.trouble = str(error)
            self._say(f"warning: what is learned is not saved for now: {error}")
        return self

    def __exit__(self, *_: object) -> None:
        if self._lock is not None and not self._hangs:
            self._lock.__exit__(None, None, None)

    def leave_behind(self) -> None:
        """Somebody hangs who may still write to it: it is others' when this process has ended, and not before."""
        self._hangs = True

    def require(self, wait_s: float = 0.0) -> None:
        """Let nobody else write to it, before anything is written.

        Raises:
            UsageError: Another process has it.
            TransferError: It cannot be used.
        """
        if self._lock is not None:
            return
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise TransferError(f"{self.path} cannot be made: {error.strerror or error}") from error
        lock = folder_locked(self.path, wait_s=wait_s)
        lock.__enter__()
        self._lock, self.trouble = lock, ""


class States:
    """Keepers by camera. All but `report` of the outbox is for the thread that answers.

    Args:
        folder: Of all cameras; None: nothing is kept.
        options: How often, how many.
        outbox: Hears what was saved and what was not.
        clock: Paces the saves.
        wall_s: Seconds since 1970.
        say: Tells people something in a line.
    """

    def __init__(
        self,
        folder: OwnFolder | None,
        options: StateOptions,
        outbox: Outbox,
        clock: Clock,
        wall_s: Callable[[], float],
        say: Say,
    ) -> None:
        self._folder, self._options, self._outbox = folder, options, outbox
        self._clock, self._wall_s, self._say = clock, wall_s, say
        self._writer = Writer()
        self._keepers: dict[str, Keeper] = {}

    def take_up(self, feed: Feed, *, fresh: bool = False) -> None:
        """Let a camera go on from its newest valid snapshot, and keep its state from here on."""
        if self._folder is None:
            return
        own, name = feed.state(), feed.name
        snapshots = Snapshots(
            camera_folder(self._folder.path, name),
            own.network_digest,
            self._options.generations,
            wall_s=self._wall_s,
            most_bytes=own.most_file_bytes,
        )
        keeper = Keeper(
            name,
            snapshots,
            feed.state,
            self._writer,
            lambda event: self._outbox.tell(event, name),
            every_s=self._options.every_s,
            day_bytes=self._options.day_bytes,
            clock=self._clock,
            require=self._folder.require,
        )
        if self._folder.trouble:
            keeper.begin_without(self._folder.trouble)
        state_bytes = own.most_file_bytes - MAX_HEADER_BYTES
        if (apart_s := keeper.expect(state_bytes)) > self._options.every_s:
            self._say(
                f"{name}: a state has {state_bytes / _MIB:.1f} MiB and is saved every {apart_s:.0f} s, not every "
                f"{self._options.every_s:g}, since [state] day_limit is {self._options.day_limit}"
            )
        if not fresh:
            found = snapshots.newest(feed.restore)
            keeper.begin_with(found)
            for line in found.lines():
                self._say(f"{name}: {line}")
        self._keepers[name] = keeper

    def saw(self, event: Event, camera: str | None) -> None:
        """Take note of an event; a step of the guard concerns all cameras."""
        for name, keeper in self._keepers.items():
            if name == camera or isinstance(event, GuardStep):
                keeper.saw(event)

    def tick(self) -> None:
        """Between two frames: save what is due."""
        for keeper in self._keepers.values():
            keeper.tick()

    def keep(self, camera: str, why: str, *, changed: bool = False) -> None:
        """Save a camera's state now: before something that may spoil it, or `changed` by somebody."""
        if camera in self._keepers:
            self._keepers[camera].keep(why, changed=changed)

    def before_reset(self, camera: str) -> None:
        """Save a camera's state, and keep it: an owner lets the camera begin anew."""
        if camera in self._keepers:
            self._keepers[camera].before_reset()

    def keep_all(self, why: str) -> None:
        """Save the states of all cameras now."""
        for keeper in self._keepers.values():
            keeper.keep(why)

    def good(self, camera: str) -> tuple[str, AdaptState | None]:
        """The last state of a camera that was good: what it is called, and what it holds; None: the source."""
        return self._keepers[camera].good if camera in self._keepers else ("source", None)

    def leave(self, camera: str) -> None:
        """A camera is no more: its state is saved for the last time."""
        if camera in self._keepers:
            self._keepers.pop(camera).stop()

    def stop(self) -> None:
        """Begin to save all for the last time."""
        for keeper in self._keepers.values():
            keeper.stop()

    def close(self, within_s: float) -> None:
        """Wait until all is saved; what is not done in time is told."""
        if not self._writer.close(within_s) and self._folder is not None:
            self._folder.leave_behind()
