"""When a camera's state is written: seldom enough for a flash card, and always before something risky.

    writer = Writer()                               # one a daemon
    keeper = Keeper("door", snapshots, state_of, writer, report)
    keeper.saw(event)                               # each event of this camera
    keeper.tick()                                   # between two frames, and now and then while there are none
    keeper.keep("before a reload")                  # now
    keeper.stop(); writer.close(within_s=3)

A state is taken between two frames, which copies it in some milliseconds; all else is done in the writer's thread.

It is written every so often while something has moved, and not otherwise. A network whose states are so large that a
day of that would be more than the limit is written less often. When the day's bytes are written no more are until the
next day, but for the one at the end.

A disk that is full, read-only or slow is told once, counted, and tried again after 30 seconds, then after twice as long
each time up to an hour. When it works again that is told as well. The stream goes on. What fails at the end is told,
whatever was told before: it is lost.

Where signs say without labels whether the answers are right, the last state that was not in doubt for ten minutes after
it had been taken is held in memory, and on the disk whatever comes after it: for a return to it. A start while it is so
kept goes on from the newest state, as ever, and knows the good one until newer ones have proved good.

Where a stream begins anew, what was learned before is kept on the disk: see `Snapshots.keep_before_reset`.

A run of one source has a single file instead: see `sinks/state_keeper`.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from threading import Lock

from ecotta_rt.daemon.saving.snapshot_files import GOOD, Snapshot
from ecotta_rt.daemon.saving.snapshots import Found, Snapshots
from ecotta_rt.daemon.saving.writer import Writer, Writing
from ecotta_rt.errors import EcottaError, UsageError
from ecotta_rt.events import (
    BatchAnswered,
    DoubtBegan,
    DoubtEnded,
    Event,
    GuardStep,
    Signs,
    StateNotSaved,
    StateSaved,
)
from ecotta_rt.machine.clock import Clock, SystemClock
from ecotta_rt.state import AdaptState

__all__ = ["DAY_BYTES", "Keeper", "Kept"]

DAY_BYTES = 1 << 30
"""What is written a day at most for each camera: all of a card of 32 GB once a month."""

_DAY_S = 86_400.0
_FIRST_RETRY_S, _LAST_RETRY_S = 30.0, 3600.0
_SLOW_S = 60.0
_SETTLED_S = 600.0
"""A collapse is seen after some five minutes, at five frames a second."""


@dataclass(frozen=True)
class Kept:
    """What has become of a camera's saves since the start.

    Attributes:
        saved: States that were written.
        failed: Tries that failed.
        bytes: Written in all.
        bytes_today: Of them in the present day, which began with the first of them.
        failing: Whether the last try failed, or takes very long.
    """

    saved: int = 0
    failed: int = 0
    bytes: int = 0
    bytes_today: int = 0
    failing: bool = False


@dataclass(eq=False)
class _Taken:
    """A state, and what becomes of it.

    Attributes:
        state: It; None: the source.
        why: It was taken.
        taken_s: When.
        snapshot: What it is on the disk.
        good: To stay on the disk beside it: the last good one, while this one is in doubt.
        beginnings: How often the stream had begun at the source by then.
        last: Whether the stream begins anew after it.
        given_up: Whether nobody waits for it any more.
    """

    state: AdaptState | None
    why: str
    taken_s: float = 0.0
    snapshot: Snapshot | None = None
    good: "_Taken | None" = None
    beginnings: int = 0
    last: bool = False
    given_up: bool = False


class Keeper:
    """Keeps one camera's state. Its methods are for the loop's thread; it reports from that and the writer's.

    Args:
        camera: Its name.
        snapshots: Where to; nobody else writes there meanwhile.
        state_of: The camera's state, as copies; called between two frames.
        writer: Has the thread.
        report: Hears of each `StateSaved`, and of the first `StateNotSaved` until one is saved again; of the last at
            the end in any case.
        every_s: Seconds between two saves, at least.
        day_bytes: To write a day at most.
        clock: Tells when the time has come.
        require: Raises `EcottaError` where the folder is not to be written to now; called in the writer's thread.

    Raises:
        UsageError: A number out of range.
    """

    def __init__(
        self,
        camera: str,
        snapshots: Snapshots,
        state_of: Callable[[], AdaptState],
        writer: Writer,
        report: Callable[[Event], None],
        *,
        every_s: float = 300.0,
        day_bytes: int = DAY_BYTES,
        clock: Clock | None = None,
        require: Callable[[], None] = lambda: None,
    ) -> None:
        if not every_s > 0:
            raise UsageError(f"save every {every_s:g} seconds: give a number above 0")
        if day_bytes < 1:
            raise UsageError(f"{day_bytes} bytes a day: give 1 or more")
        self.camera = camera
        self._snapshots = snapshots
        self._state_of = state_of
        self._writer = writer
        self._report = report
        self._every_s = every_s
        self._day_bytes = day_bytes
        self._require = require
        self._clock = clock or SystemClock()
        self._lock = Lock()  # of all that follows
        self._moved = False  # since it was taken last, or what was taken is not on the disk
        self._tried_s = self._day_began_s = self._clock.now_s()
        self._retry_s = 0.0  # 0: the last try was good
        self._state_bytes = 0
        self._kept = Kept()
        self._good = _Taken(None, "the source")
        self._candidate: _Taken | None = None
        self._doubtful = False
        self._unproved = False  # whether an earlier run ended in doubt, and nothing has proved good since
        self._beginnings, self._kept_before = 1, 0  # at the source; before so many of them what was learned is kept
        self._resetting = self._at_source = False
        self._latest: _Taken | None = None
        self._stopped = False
        self._trouble = ""  # from before the start, not told yet

    def begin_with(self, found: Found) -> None:
        """The stream goes on from this, which counts as good until somebody says otherwise, or has said so before."""
        kept = self._snapshots.pinned(GOOD)
        good = found if kept.snapshot is None else kept
        with self._lock:
            why = "the source" if good.snapshot is None else str(good.snapshot)
            self._good = _Taken(good.state, why, snapshot=good.snapshot)
            self._unproved = kept.snapshot is not None
            if found.snapshot is not None:
                self._kept_before = self._beginnings

    def begin_without(self, why: str) -> None:
        """There is nowhere to save to yet; `tick` tells it, when everybody hears."""
        self._trouble = why

    def expect(self, state_bytes: int) -> float:
        """A state has about so many bytes: returns how many seconds apart it is saved, at least."""
        with self._lock:
            self._state_bytes = state_bytes
            return self._apart_s()

    @property
    def figures(self) -> Kept:
        """Counts so far."""
        with self._lock:
            self._begin_day()
            return self._kept

    @property
    def good(self) -> tuple[str, AdaptState | None]:
        """The last state that was good: what it is called, and what it holds; None: the source."""
        with self._lock:
            taken = self._good
            return (taken.snapshot.name if taken.snapshot else "source"), taken.state

    def saw(self, event: Event) -> None:
        """Take note of an event of this camera; a step of the guard to a lower level has the state kept."""
        match event:
            case BatchAnswered():
                if event.offered or event.followed:
                    with self._lock:
                        self._moved, self._at_source = True, False
            case GuardStep() if event.level > event.before:
                self.keep(f"the guard went to {event.level}")
            case DoubtBegan():
                with self._lock:
                    self._doubtful, self._candidate = True, None
            case DoubtEnded():
                with self._lock:
                    self._doubtful = False
            case Signs():
                self._settle()

    def _settle(self) -> None:
        """What was taken long enough ago, and not doubted since, is good."""
        with self._lock:
            taken = self._candidate
            if taken is not None and self._clock.now_s() - taken.taken_s >= _SETTLED_S:
                self._good, self._candidate, self._unproved = taken, None, False

    def tick(self) -> None:
        """Save when the time has come, and say so where the disk takes very long."""
        if self._trouble:
            why, self._trouble = self._trouble, ""
            if not self.figures.saved:
                self._failed(why)
        if self._writer.is_busy(self.camera):
            self._watch_slow_disk()
        elif self._is_due():
            with self._lock:
                apart_s = self._apart_s()
            self.keep(f"every {apart_s:.0f} s")

    def keep(self, why: str, *, changed: bool = False) -> None:
        """Save now, unless nothing has moved; returns at once.

        Args:
            why: In a few words: what comes now, or has come.
            changed: Somebody has put another state in place.
        """
        if changed:
            self._note_changed()
        if self._may_write():
            self._take(why)

    def before_reset(self) -> None:
        """An owner lets the camera begin anew: save it, and once `keep` says that it is `changed`, keep what it was."""
        with self._lock:
            self._resetting = True
        self.keep("before a reset")

    def _note_changed(self) -> None:
        """Another state is in place; a second reset in a row changes nothing, and is not written."""
        with self._lock:
            reset, again = self._resetting, self._resetting and self._at_source
            self._at_source, self._resetting, self._candidate = reset, False, None
            if reset:
                self._good, self._unproved = _Taken(None, "the source"), False
            if not again:
                self._moved = True
                self._beginnings += reset

    def stop(self) -> None:
        """Save for the last time, whatever was written today; then close the writer."""
        with self._lock:
            moved, self._stopped = self._moved, True
        if moved:
            self._take("at stop")

    def _is_due(self) -> bool:
        with self._lock:
            waited_s = self._clock.now_s() - self._tried_s
            return self._moved and waited_s >= (self._retry_s or self._apart_s())

    def _apart_s(self) -> float:
        return max(self._every_s, self._state_bytes * _DAY_S / self._day_bytes)

    def _may_write(self) -> bool:
        with self._lock:
            self._begin_day()
            if not self._moved:
                return False
            today = self._kept.bytes_today
        if today and today + self._state_bytes > self._day_bytes:
            self._failed(f"the {self._day_bytes} bytes of this day are written")
            return False
        return True

    def _begin_day(self) -> None:
        now_s = self._clock.now_s()
        if now_s - self._day_began_s >= _DAY_S:
            self._day_began_s = now_s
            self._kept = replace(self._kept, bytes_today=0)

    def _take(self, why: str) -> None:
        taken = _Taken(self._state_of(), why, self._clock.now_s())
        with self._lock:
            taken.good = self._good if self._doubtful or self._unproved else None
            taken.beginnings = self._beginnings
            taken.last = self._resetting and not self._at_source
            self._moved, self._latest = False, taken
            self._tried_s = taken.taken_s
            if self._candidate is None and not self._doubtful:
                self._candidate = taken
        self._writer.put(self.camera, Writing(partial(self._write, taken), partial(self._give_up, taken)))

    def _watch_slow_disk(self) -> None:
        with self._lock:
            waited_s = self._clock.now_s() - self._tried_s
            told = self._kept.failing
        if waited_s >= _SLOW_S and not told:
            self._failed(f"the disk has been writing for {waited_s:.0f} seconds")

    # In the writer's thread

    def _write(self, taken: _Taken) -> None:
        assert taken.state is not None
        try:
            self._require()
            if taken.beginnings > self._kept_before:
                self._snapshots.keep_before_reset()
            self._settle_pins(taken.good)
            snapshot = self._snapshots.write(taken.state, taken.why)
            if taken.last:  # at once, so that what is told names the file as it stays
                kept = self._snapshots.keep_before_reset()
                snapshot = kept if kept is not None and kept.generation == snapshot.generation else snapshot
            size = snapshot.path.stat().st_size
        except EcottaError as error:
            self._failed(str(error), taken)
        except Exception as error:  # the thread serves other cameras too
            self._failed(f"{type(error).__name__}: {error}", taken)
        else:
            self._saved(taken, snapshot, size)

    def _settle_pins(self, good: _Taken | None) -> None:
        """Pin the last good state while newer ones are in doubt, and no other."""
        kept = None if good is None else good.snapshot
        for snapshot in self._snapshots.listed():
            wanted = GOOD if kept is not None and snapshot.generation == kept.generation else ""
            if snapshot.network == self._snapshots.network_digest[:12] and snapshot.pin == ("" if wanted else GOOD):
                moved = self._snapshots.pin(snapshot, wanted)
                if good is not None and wanted:
                    with self._lock:
                        good.snapshot = moved

    def _saved(self, taken: _Taken, snapshot: Snapshot, size: int) -> None:
        with self._lock:
            taken.snapshot = snapshot
            self._kept_before = max(self._kept_before, taken.beginnings + taken.last)
            self._state_bytes, self._retry_s = size, 0.0
            self._begin_day()
            kept = self._kept
            self._kept = replace(
                kept,
                saved=kept.saved + 1,
                bytes=kept.bytes + size,
                bytes_today=kept.bytes_today + size,
                failing=False,
            )
        if not taken.given_up:
            self._report(StateSaved(str(snapshot.path), size, taken.why))

    def _failed(self, why: str, taken: _Taken | None = None) -> None:
        if taken is not None and taken.given_up:
            return
        with self._lock:
            told = self._kept.failing
            self._kept = replace(self._kept, failed=self._kept.failed + 1, failing=True)
            self._tried_s = self._clock.now_s()
            if taken is not None:
                self._moved = True
                self._retry_s = min(2 * self._retry_s or _FIRST_RETRY_S, _LAST_RETRY_S)
            if self._stopped and taken is self._latest:
                told, why = False, f"at stop: {why}"  # nobody tries again
        if not told:
            self._report(StateNotSaved(str(self._snapshots.folder), why))

    def _give_up(self, taken: _Taken, why: str) -> None:
        with self._lock:
            taken.given_up = True
            self._kept = replace(self._kept, failed=self._kept.failed + 1, failing=True)
        self._report(StateNotSaved(str(self._snapshots.folder), why))
