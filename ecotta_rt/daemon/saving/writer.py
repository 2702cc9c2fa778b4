"""A thread that writes to a disk which may be slow, full, read-only or gone, so that nobody else waits for it."""

from collections.abc import Callable
from dataclasses import dataclass
from threading import Condition, Thread

__all__ = ["Writer", "Writing"]

_MOST_WAITING = 3


@dataclass(frozen=True)
class Writing:
    """Something to write.

    Attributes:
        write: Does it; must not raise. Called in the writer's thread.
        give_up: Called with a sentence instead of waiting longer; what `write` still does then counts for nothing.
    """

    write: Callable[[], None]
    give_up: Callable[[str], None]


class Writer:
    """Writes for several cameras, one after the other, in the order in which it was asked.

    Of a camera a few may wait; where there are more, the newest takes the place of the one before it. The thread begins
    with the first writing. It does not keep the process from ending: a disk that hangs may hold it for ever.
    """

    def __init__(self) -> None:
        self._waiting: list[tuple[str, Writing]] = []
        self._at_work: tuple[str, Writing] | None = None
        self._changed = Condition()
        self._closed = False
        self._thread: Thread | None = None

    def put(self, name: str, writing: Writing) -> None:
        """Write this soon."""
        with self._changed:
            if self._closed:
                return
            if self._thread is None:
                self._thread = Thread(target=self._run, name="state writer", daemon=True)
                self._thread.start()
            places = [place for place, (other, _) in enumerate(self._waiting) if other == name]
            if len(places) >= _MOST_WAITING:
                self._waiting.pop(places[-1])
            self._waiting.append((name, writing))
            self._changed.notify_all()

    def is_busy(self, name: str) -> bool:
        """Whether something of that name is being written, or waits to be."""
        with self._changed:
            return any(name == other for other, _ in self._left())

    def drain(self, within_s: float) -> bool:
        """Wait until all is written; False where it took longer."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._left(), within_s)

    def close(self, within_s: float) -> bool:
        """Write what waits and end; what is not done in time is given up.

        Returns:
            Whether all was written.
        """
        done = self.drain(within_s)
        with self._changed:
            self._closed = True
            left = self._left()
            self._waiting.clear()
            self._changed.notify_all()
        for _, writing in left:
            writing.give_up(f"the disk was not done within {within_s:g} seconds")
        if done and self._thread is not None:
            self._thread.join()
        return done

    def _left(self) -> list[tuple[str, Writing]]:
        return [*([self._at_work] if self._at_work else []), *self._waiting]

    def _run(self) -> None:
        while (writing := self._next()) is not None:
            writing.write()
            with self._changed:
                self._at_work = None
                self._changed.notify_all()

    def _next(self) -> Writing | None:
        """The one that waits longest, which is at work from here on; None: it is over."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            if not self._waiting:
                return None
            self._at_work = self._waiting.pop(0)
            return self._at_work[1]
