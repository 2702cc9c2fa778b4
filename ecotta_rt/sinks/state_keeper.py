"""Keep the adapted state on the disk: taken up at the start, saved now and then, and at the end."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from ecotta_rt.errors import InputFileError, TransferError, UsageError
from ecotta_rt.machine.clock import Clock, SystemClock
from ecotta_rt.sinks.tally import Tally
from ecotta_rt.state import AdaptState

__all__ = ["StateKeeper", "Stateful"]


_WAYS_OUT = "--fresh starts anew and replaces it, --state names another file, --no-state does without"


class Stateful(Protocol):
    """What has an adapted state."""

    @property
    def state(self) -> AdaptState: ...

    def restore(self, state: AdaptState) -> None: ...

    def save_state(self, path: Path) -> None: ...


class StateKeeper:
    """Saves a state every so often while it changes; a flash card need not hear of anything else.

    Args:
        path: The state's file.
        engine: Whose state.
        every_s: Seconds between two saves, at least.
        report: Hears, in a line, of a state that could not be saved while the run goes on.
        clock: Tells when the time has come.

    Raises:
        UsageError: `every_s` is not above 0.
    """

    def __init__(
        self, path: Path, engine: Stateful, every_s: float, report: Callable[[str], None], clock: Clock | None = None
    ) -> None:
        if not every_s > 0:
            raise UsageError(f"save every {every_s:g} seconds: give a number above 0")
        self._path = path
        self._engine = engine
        self._every_s = every_s
        self._report = report
        self._clock = clock or SystemClock()
        self._tried_s = self._clock.now_s()
        self._saved = 0

    def take_up(self) -> bool:
        """Go on from the saved state.

        Returns:
            Whether there was one.

        Raises:
            InputFileError: It cannot be read, or belongs to another network; the message says how to go on.
        """
        if not self._path.exists():
            return False
        try:
            own = self._engine.state
            state, own_digest = AdaptState.load(self._path, most_bytes=own.most_file_bytes), own.network_digest
            if state.network_digest != own_digest:
                raise InputFileError(
                    f"{self._path}: belongs to network {state.network_digest[:12]}, the bundle holds {own_digest[:12]}"
                )
            self._engine.restore(state)
        except InputFileError as error:
            raise InputFileError(f"{error}; {_WAYS_OUT}") from error
        return True

    def after_batch(self, tally: Tally) -> None:
        """Save when the time has come; a save that fails is reported, and the run goes on."""
        if self._clock.now_s() - self._tried_s < self._every_s:
            return
        try:
            self.save(tally)
        except TransferError as error:
            self._report(str(error))

    def save(self, tally: Tally) -> None:
        """Save now, unless nothing was learned since. A state that has diverged is reported and not written.

        Raises:
            TransferError: The file cannot be written.
        """
        self._tried_s = self._clock.now_s()
        if tally.offered == self._saved:
            return
        try:
            self._engine.save_state(self._path)
        except UsageError as error:  # NaN in it: the last good file stays
            self._report(str(error))
        else:
            self._saved = tally.offered
