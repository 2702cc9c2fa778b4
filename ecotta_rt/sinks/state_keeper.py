"""Keep the adapted state on the disk: taken up at the start, saved now and then, and at the end.

One file, for `ecotta run`. A daemon keeps generations of each camera's instead: see `daemon/keeper`.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ecotta_rt.errors import InputFileError, TransferError, UsageError
from ecotta_rt.events import Answer, BatchAnswered, Event, StateNotSaved, StateSaved
from ecotta_rt.machine.clock import Clock, SystemClock
from ecotta_rt.state import AdaptState

if TYPE_CHECKING:
    from ecotta_rt.runtime.engine import Runtime

__all__ = ["StateKeeper"]


_WAYS_OUT = "--fresh starts anew and replaces it, --state names another file, --no-state does without"


class StateKeeper:
    """Saves a state every so often while it changes; a flash card need not hear of anything else.

    Args:
        path: The state's file.
        engine: Whose state.
        every_s: Seconds between two saves, at least.
        report: Hears of each `StateSaved`, and of each `StateNotSaved` while the run goes on.
        clock: Tells when the time has come.
        saves: Off: the file is only read.

    Raises:
        UsageError: `every_s` is not above 0.
    """

    def __init__(
        self,
        path: Path,
        engine: "Runtime",
        every_s: float,
        report: Callable[[Event], None],
        clock: Clock | None = None,
        *,
        saves: bool = True,
    ) -> None:
        if not every_s > 0:
            raise UsageError(f"save every {every_s:g} seconds: give a number above 0")
        self._path = path
        self._engine = engine
        self._every_s = every_s
        self._report = report
        self._saves = saves
        self._clock = clock or SystemClock()
        self._tried_s = self._clock.now_s()
        self._moved = False  # since the last save
        self._to_come = 0  # answers of the last batch

    def take_up(self) -> str:
        """Go on from the saved state.

        Returns:
            A line that says so; empty where there was none.

        Raises:
            InputFileError: It cannot be read, or belongs to another network; the message says how to go on.
        """
        if not self._path.exists():
            return ""
        try:
            own = self._engine.state
            state, own_digest = AdaptState.load(self._path, most_bytes=own.most_file_bytes), own.network_digest
            if state.network_digest != own_digest:
                raise InputFileError(
                    f"{self._path}: belongs to network {state.network_digest[:12]}, the bundle holds {own_digest[:12]}"
                )
            whole = self._engine.restore(state)
        except InputFileError as error:
            raise InputFileError(f"{error}; {_WAYS_OUT}") from error
        anew = "" if whole else "; it was saved with other options, so the memory of places begins anew"
        return f"going on from {self._path} (--fresh starts anew){anew}"

    def take(self, event: Event) -> None:
        """Save after a batch when the time has come; a save that fails is reported, and the run goes on.

        A card that is slow to write must not hold up the answers to the batch, so it waits for the last of them.
        """
        if isinstance(event, BatchAnswered):
            self._moved |= event.offered or event.followed
            self._to_come = event.frames
            return
        if not isinstance(event, Answer):
            return
        self._to_come -= 1
        if self._to_come or self._clock.now_s() - self._tried_s < self._every_s:
            return
        try:
            self.save()
        except TransferError as error:
            self._report(StateNotSaved(str(self._path), str(error)))

    def close(self) -> None:
        self.save()

    def save(self) -> None:
        """Save now, unless nothing has moved since. A state that has diverged is reported and not written.

        Raises:
            TransferError: The file cannot be written.
        """
        self._tried_s = self._clock.now_s()
        if not self._moved or not self._saves:
            return
        try:
            self._engine.save_state(self._path)
        except UsageError as error:  # NaN in it: the last good file stays
            self._report(StateNotSaved(str(self._path), str(error)))
        else:
            self._moved = False
            self._report(StateSaved(str(self._path)))
