"""From the guard's steps to the graphs that the engine holds."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ecotta_rt.errors import BudgetExceeded, InputFileError
from ecotta_rt.events import Event, GuardStep
from ecotta_rt.records import Level
from ecotta_rt.runtime.guard import Guard

if TYPE_CHECKING:
    from ecotta_rt.runtime.engine import Runtime

__all__ = ["Ladder"]


class Ladder:
    """Brings an engine to the level that the guard asks for, or to the next lower one whose graphs can be opened.

    Args:
        engine: Whose graphs are opened and closed.
        guard: Asks for the levels; without one it stays on `Level.FULL`.

    Attributes:
        level: The one the engine is on.
        sparse_every: On `Level.SPARSE` each n-th batch is learned from, of those that would be.
    """

    def __init__(self, engine: "Runtime", guard: Guard | None) -> None:
        self.level = Level.FULL if guard is None else guard.level
        self.sparse_every = 1 if guard is None else guard.policy.sparse_every
        self._engine = engine
        self._guard = guard
        self._shortage: tuple[int, int] | None = None  # what a graph asked for and did not get
        self._learning = False

    @contextmanager
    def learning(self) -> Iterator[None]:
        """In here a batch is learned from, and may be given up."""
        self._learning = True
        try:
            yield
        finally:
            self._learning = False

    def check_memory(self) -> None:
        """Give up learning from the batch in progress where memory is short: for a thread that watches meanwhile."""
        if self._guard is not None and self._learning and self._guard.must_not_wait():
            self._engine.interrupt()

    def fell_short(self, error: BudgetExceeded) -> bool:
        """Remember for the next `check` that a graph got no memory; False where no lower level is left."""
        if self._guard is None or self._guard.level == Level.DROP:
            return False
        self._shortage = (error.need_bytes, error.limit_bytes)
        return True

    def check(self, frame: int, before_drop: Callable[[], Iterator[Event]]) -> Iterator[Event]:
        """Ask the guard, and make the step where there is one.

        Args:
            frame: Position in the stream.
            before_drop: Answers what waits; called before all graphs are closed.

        Yields:
            The step, before it is made where it leads down: should it come too late, the last line says what was
            tried. Then what came of it.
        """
        if self._guard is None:
            return
        shortage, self._shortage = self._shortage, None
        if shortage is None:
            step = self._guard.check(frame, self._engine.transient_bytes)
        else:
            step = self._guard.fell_short(frame, *shortage)
        if step is None:
            return
        down = step.level > step.before
        if down:
            yield step
        yield from self._make(step, before_drop)
        if self.level != step.level:
            yield self._guard.cannot_load(step, self.level)
        elif not down:
            yield step

    def _make(self, step: GuardStep, before_drop: Callable[[], Iterator[Event]]) -> Iterator[Event]:
        """Reach the level; where its graphs cannot be opened, the one before, or the next below that can."""
        for level in Level:
            if level < step.level or step.level < level < step.before:
                continue
            if level == Level.DROP:
                yield from before_drop()
            try:
                self.go_to(level)
            except (InputFileError, MemoryError):
                continue
            return
        raise AssertionError("drop opens nothing")

    def go_to(self, level: Level) -> None:
        """Go to a level; raises what `set_level` does."""
        self._engine.set_level(level)
        self.level = level
