"""Where a stream that has collapsed goes back to: the last good state, then the source, then nowhere for a day.

A state from before a collapse may carry its seed, and a rule may be wrong about a camera. So who collapses again within
an hour begins at the source, and who does so even then is left alone: doubt stays, and the owner is asked.
"""

from typing import Literal

__all__ = ["AGAIN_S", "REST_S", "Returns"]

AGAIN_S = 3600.0
"""A collapse within so many seconds of a return is the same one."""

REST_S = 86400.0
"""After a return to the source that did not help."""


class Returns:
    """The returns of one stream.

    Args:
        on: Whether it ever goes back.
    """

    def __init__(self, on: bool = True) -> None:
        self._on = on
        self._last_s = float("-inf")
        self._steps = 0

    def choose(self, now_s: float) -> Literal["good", "source"] | None:
        """What to put back now; None: nothing, it would not help.

        Args:
            now_s: By a clock that never jumps; a return that is chosen counts as made.
        """
        if not self._on:
            return None
        apart_s = now_s - self._last_s
        if apart_s >= (REST_S if self._steps == 2 else AGAIN_S):
            self._steps = 0
        if self._steps == 2:
            return None
        self._steps += 1
        self._last_s = now_s
        return "good" if self._steps == 1 else "source"
