"""A thread that reads one camera and puts what it shows in the camera's slot."""

import time
from collections.abc import Sequence
from contextlib import closing
from threading import Thread

from ecotta_rt.daemon.desk import Slot
from ecotta_rt.sources.source import Source

__all__ = ["CameraThread"]

_PAUSE_S = 0.001
"""A source that gives more than is taken, without a pause, would keep the interpreter from the thread that answers."""

_AFTER_S = 2.0  # some frames of a slow camera; one that hangs is not waited for


class CameraThread:
    """Reads from its making until the source ends or `stop`.

    Args:
        source: Iterated in the thread alone.
        slot: Where its items go, and at last its end.
        name: Of the camera, for the thread's name.
        after: Those who may still have its device; they were told to stop, and it waits a little for them.
    """

    def __init__(self, source: Source, slot: Slot, name: str, after: "Sequence[CameraThread]" = ()) -> None:
        self._source = source
        self._slot = slot
        self._after = [*after]
        # A daemon: a camera that hangs in a read must not keep the process alive.
        self._thread = Thread(target=self._read, name=f"camera {name}", daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> int:
        """Frames that the source itself has dropped."""
        return self._source.dropped

    def stop(self) -> None:
        """No more is wanted; does not wait."""
        self._source.close()
        self._slot.close()

    def join(self, most_s: float) -> bool:
        """Wait for the thread, but no longer than so many seconds; returns whether it has ended."""
        self._thread.join(most_s)
        return not self._thread.is_alive()

    def _read(self) -> None:
        self._wait_for_the_others()
        error: BaseException | None = None
        try:
            with closing(iter(self._source)) as items:
                for item in items:
                    crowded = self._slot.waiting and not self._slot.options.waits
                    if not self._slot.put(item):
                        return
                    if crowded:
                        time.sleep(_PAUSE_S)
        except BaseException as raised:  # told where frames are answered
            error = raised
        self._slot.end(error)

    def _wait_for_the_others(self) -> None:
        until_s = time.monotonic() + _AFTER_S
        while self._after:
            self._after.pop().join(max(0.0, until_s - time.monotonic()))
