"""Time as something to be handed in, so that tests need not wait."""

import time
from typing import Protocol

__all__ = ["Clock", "ManualClock", "SystemClock"]


class Clock(Protocol):
    """Tells the time and waits."""

    def now_s(self) -> float:
        """Seconds since some moment; never goes back."""

    def sleep_s(self, seconds: float) -> None:
        """Wait; zero or less is no wait."""


class SystemClock:
    """The clock of the machine: `time.monotonic`."""

    def now_s(self) -> float:
        return time.monotonic()

    def sleep_s(self, seconds: float) -> None:
        if seconds > 0:
            time.sleep(seconds)


class ManualClock:
    """A double: time passes when somebody sleeps or `advance_s` is called, and at no other moment.

    Attributes:
        slept_s: Every wait that was asked for, in order.
    """

    def __init__(self, now_s: float = 0.0) -> None:
        self._now_s = now_s
        self.slept_s: list[float] = []

    def now_s(self) -> float:
        return self._now_s

    def sleep_s(self, seconds: float) -> None:
        self.slept_s.append(seconds)
        self.advance_s(max(seconds, 0.0))

    def advance_s(self, seconds: float) -> None:
        """Let time pass."""
        self._now_s += seconds
