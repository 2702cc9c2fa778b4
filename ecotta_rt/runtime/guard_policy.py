"""What is too much for a run, and how long the guard waits."""

from collections.abc import Callable
from dataclasses import dataclass

from ecotta_rt.errors import UsageError

__all__ = ["GuardPolicy"]

_MIB = 2**20


def _no_limit() -> int | None:
    return None


@dataclass(frozen=True)
class GuardPolicy:
    """What is too much, and how long to wait.

    Attributes:
        limit_bytes: What this process may have, asked at each check: an app's own limit can move while it runs. None:
            nobody has given one.
        most_share: Of a limit; above it the guard steps down.
        calm_share: Of a limit; below it the guard may step up.
        far_share: Of a limit; above it the guard goes to `inference` at once.
        least_available_bytes: Floor of the machine's available memory.
        most_temperature_c: Ceiling. Default: where a Raspberry Pi begins to slow itself down
            (raspberrypi.com/documentation, "Frequency management and thermal control"). None: heat is not watched.
        hot_margin_c: So far above the ceiling frames are dropped.
        calm_margin_c: So far below the ceiling it is cool again.
        sparse_every: On the level `sparse` each n-th batch is learned from, of those that would be.
        check_every_s: Seconds between two readings, at least.
        cool_s: Seconds that a step down is given to lower the temperature.
        dwell_s: Seconds of calm before a step up.
        longest_dwell_s: What the wait for a rung that had to be left again grows to.

    Raises:
        UsageError: Numbers that cannot be meant.
    """

    limit_bytes: Callable[[], int | None] = _no_limit
    most_share: float = 0.92
    calm_share: float = 0.85
    far_share: float = 1.25
    least_available_bytes: int = 32 * _MIB
    most_temperature_c: float | None = 80.0
    hot_margin_c: float = 5.0
    calm_margin_c: float = 5.0
    sparse_every: int = 4
    check_every_s: float = 0.25
    cool_s: float = 30.0
    dwell_s: float = 10.0
    longest_dwell_s: float = 600.0

    def __post_init__(self) -> None:
        if not 0 < self.calm_share <= self.most_share <= 1 <= self.far_share:
            raise UsageError(
                f"shares {self.calm_share:g}, {self.most_share:g} and {self.far_share:g} of a limit: give "
                "0 < calm <= most <= 1 <= far"
            )
        if self.most_temperature_c is not None and not 0 < self.most_temperature_c < 150:
            raise UsageError(f"a ceiling of {self.most_temperature_c:g} degrees Celsius: give a number from 1 to 149")
        if self.sparse_every < 2:
            raise UsageError(f"sparse every {self.sparse_every}: give 2 or more, 1 would spare nothing")
        if min(self.check_every_s, self.cool_s, self.dwell_s) < 0 or self.longest_dwell_s < self.dwell_s:
            raise UsageError("times of a guard are 0 or more, and the longest dwell no shorter than the dwell")
