"""Steps down before the kernel kills: from readings of the machine to a rung of the ladder, and to nothing else.

    VitalsReader -> Guard.check -> GuardEvent -> the loop, which closes graphs or opens them

Three things ask for a lower rung, and the lowest asked for counts:

- **Memory.** This process's share against the limit it was given, its control group's usage against the group's limit,
  and the machine's available memory against a floor. Learning less often frees nothing (it needs a second graph), so
  memory skips the rung `sparse`; each check that finds it short goes to the next rung that frees some, and far over
  the limit at once to `inference`. Frames are dropped only when nothing else was enough.
- **Heat.** At the ceiling the duty cycle is shortened, then learning ends. Each step is given time to show. Frames are
  dropped only well above the ceiling.
- **Throttling**, where a Raspberry Pi's firmware tells of it: as heat, but it drops nothing.

Up it goes one rung at a time, when for a while nothing has asked and memory was well below its limits, and never where
the memory last seen on that rung would not fit now (where that is `sparse`, `full` is tried). A rung that had to be
left again soon is tried again later, twice as late each time: so it does not flap.

Nothing here touches a graph, a frame or a file; readings and clock are handed in.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from ecotta_rt.errors import UsageError
from ecotta_rt.machine.clock import Clock, SystemClock
from ecotta_rt.machine.throttling import THROTTLED_NOW
from ecotta_rt.machine.vitals import Vitals
from ecotta_rt.runtime.level import Level

__all__ = ["Guard", "GuardEvent", "GuardPolicy", "Reason"]

_MIB = 2**20

Reason = Literal["limit", "control-group", "available", "temperature", "throttled", "recovered", "cannot-load"]
"""Why a rung was left:

    limit           this process's memory against the limit it was given
    control-group   the control group's usage against its limit
    available       the machine's available memory against the floor
    temperature     the hottest zone against the ceiling
    throttled       the firmware slows the processor down
    recovered       nothing asked for a lower rung any more: one up
    cannot-load     the graphs of the rung could not be opened
"""


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
        sparse_every: On the rung `sparse` each so manieth batch is learned from, of those that would be.
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


@dataclass(frozen=True)
class GuardEvent:
    """One step, or a step that failed: then both levels are the same.

    Attributes:
        frame: Position in the stream of the frame before which it was made.
        before: The level left.
        level: The level reached.
        why: One of `Reason`.
        usage_bytes: What counted against the limit; this process's memory where no limit was the reason.
        limit_bytes: The limit that counted, or the one there is.
        available_bytes: The machine's available memory.
        temperature_c: Of the hottest zone.
    """

    frame: int
    before: Level
    level: Level
    why: Reason
    usage_bytes: int | None = None
    limit_bytes: int | None = None
    available_bytes: int | None = None
    temperature_c: float | None = None

    def as_json(self) -> dict[str, object]:
        """A line of its own among the answers; what is not known is left out."""
        fields: dict[str, object] = {
            "event": "guard",
            "from": str(self.before),
            "to": str(self.level),
            "why": self.why,
            "usage_bytes": self.usage_bytes,
            "limit_bytes": self.limit_bytes,
            "available_bytes": self.available_bytes,
            "temperature_c": self.temperature_c,
            "frame": self.frame,
        }
        return {key: value for key, value in fields.items() if value is not None}

    def __str__(self) -> str:
        return f"guard: {self._what()} ({self._because()})"

    def _what(self) -> str:
        return f"stays at {self.level}" if self.before == self.level else f"{self.before} -> {self.level}"

    def _because(self) -> str:
        if self.why == "temperature":
            return f"{self.temperature_c:g} degrees C"
        if self.why == "available" and self.available_bytes is not None:
            return f"available: {self.available_bytes / _MIB:.0f} MiB"
        if self.usage_bytes is None or self.limit_bytes is None:
            return self.why
        return f"{self.why}: {self.usage_bytes / _MIB:.0f} of {self.limit_bytes / _MIB:.0f} MiB"


@dataclass(frozen=True)
class _Pressure:
    """One of the limits: what is used of it."""

    why: Reason
    usage_bytes: int
    limit_bytes: int

    @property
    def share(self) -> float:
        return self.usage_bytes / max(self.limit_bytes, 1)


class Guard:
    """Says which rung to be on.

    Args:
        policy: What is too much.
        read: Gives a reading, such as a `VitalsReader`.
        clock: Paces the checks and the waiting.

    Attributes:
        policy: As given.
        level: The present rung.
    """

    def __init__(self, policy: GuardPolicy, read: Callable[[], Vitals], clock: Clock | None = None) -> None:
        self.policy = policy
        self.level = Level.FULL
        self._read = read
        self._clock = clock or SystemClock()
        self._next_s: float | None = None
        self._calm_since_s: float | None = None
        self._cooling_until_s = 0.0
        self._short: Vitals | None = None  # the reading for which a step in progress was given up
        # This process's memory when last on such a rung, twice: a large picture at hand is not what the rung takes.
        self._seen_bytes: dict[Level, deque[int]] = {}
        self._dwell_s: dict[Level, float] = {}  # of rungs that had to be left again
        self._reached_s: dict[Level, float] = {}  # by steps up
        self._too_large: set[Level] = set()  # rungs whose graphs did not get their memory

    def check(self, frame: int = 0, transient_bytes: int = 0) -> GuardEvent | None:
        """Take a reading when one is due, and step where it asks for that.

        Args:
            frame: Position in the stream, for the event.
            transient_bytes: What the next batch will take above what is held between two.

        Returns:
            The step; None where the level stays.
        """
        now_s = self._clock.now_s()
        if self._next_s is not None and now_s < self._next_s:
            return None
        self._next_s = now_s + self.policy.check_every_s
        vitals, transient_bytes = self._reading(transient_bytes)
        pressures = self._pressures(vitals, transient_bytes)
        asked, why = self._asked(vitals, pressures, transient_bytes, now_s)
        if asked > self.level:
            return self._step_down(asked, why, frame, vitals, pressures, now_s)
        return self._step_up(frame, vitals, pressures, transient_bytes, now_s)

    def must_not_wait(self) -> bool:
        """Whether memory is so short that a step in progress has to be given up; the next check then goes down for it.

        For another thread, while a batch is learned from: the reading has the tensors of the step in it, which are gone
        at the next check. Went it by those left, it would give up one step after the other and never tell.
        """
        level, vitals = self.level, self._read()
        short = self._asked_by_memory(vitals, self._pressures(vitals, 0), 0)[0] > level == self.level
        if short:
            self._short, self._next_s = vitals, None
        return short

    def fell_short(self, frame: int, need_bytes: int, limit_bytes: int) -> GuardEvent | None:
        """Step down since the graphs of this rung have asked for more memory than there is; they are not tried again.

        Args:
            frame: Position in the stream, for the event.
            need_bytes: What was asked for.
            limit_bytes: What there was.

        Returns:
            The step; None on the lowest rung.
        """
        if self.level == Level.DROP:
            return None
        alike = (Level.FULL, Level.SPARSE)  # whose graph that learns is the same
        self._too_large.update(alike if self.level in alike else (self.level,))
        asked = Level(max(self.level + 1, Level.STATISTICS))
        event = GuardEvent(frame, self.level, asked, "limit", usage_bytes=need_bytes, limit_bytes=limit_bytes)
        self.level, self._calm_since_s = asked, None
        return event

    def cannot_load(self, step: GuardEvent, reached: Level) -> GuardEvent:
        """The graphs of the rung that `step` led to could not be opened.

        Args:
            step: What `check` gave.
            reached: The rung that was held instead, below.

        Returns:
            What to tell.
        """
        self._left(step.level, self._clock.now_s())
        self.level, self._calm_since_s = reached, None
        return replace(step, before=max(step.before, step.level), level=reached, why="cannot-load")

    # What readings ask for

    def _reading(self, transient_bytes: int) -> tuple[Vitals, int]:
        """What to go by, and what is still to come on top of it."""
        short, self._short = self._short, None
        vitals, transient_bytes = (self._read(), transient_bytes) if short is None else (short, 0)
        if vitals.pss_bytes is not None:
            seen_bytes = self._seen_bytes.setdefault(self.level, deque(maxlen=2))
            if short is not None:
                seen_bytes.clear()  # in the midst of a step: better than any guess before it
            seen_bytes.append(vitals.pss_bytes + transient_bytes)
        return vitals, transient_bytes

    def _pressures(self, vitals: Vitals, transient_bytes: int) -> list[_Pressure]:
        """Every limit there is, the one most used first."""
        found = []
        limit_bytes = self.policy.limit_bytes()
        if limit_bytes is not None and vitals.pss_bytes is not None:
            found.append(_Pressure("limit", vitals.pss_bytes + transient_bytes, limit_bytes))
        if vitals.group is not None:
            usage_bytes = vitals.group.usage_bytes + transient_bytes
            found.append(_Pressure("control-group", usage_bytes, vitals.group.limit_bytes))
        return sorted(found, key=lambda pressure: -pressure.share)

    def _asked(
        self, vitals: Vitals, pressures: list[_Pressure], transient_bytes: int, now_s: float
    ) -> tuple[Level, Reason]:
        asked = [self._asked_by_memory(vitals, pressures, transient_bytes), self._asked_by_heat(vitals, now_s)]
        return max(asked, key=lambda one: one[0])

    def _asked_by_memory(
        self, vitals: Vitals, pressures: list[_Pressure], transient_bytes: int
    ) -> tuple[Level, Reason]:
        next_that_frees = min(max(self.level + 1, Level.STATISTICS), Level.DROP)
        if pressures and pressures[0].share > self.policy.most_share:
            far = pressures[0].share > self.policy.far_share
            return Level(max(next_that_frees, Level.INFERENCE) if far else next_that_frees), pressures[0].why
        if self._is_scarce(vitals, transient_bytes):
            return Level(next_that_frees), "available"
        return Level.FULL, "recovered"

    def _asked_by_heat(self, vitals: Vitals, now_s: float) -> tuple[Level, Reason]:
        ceiling_c, temperature_c = self.policy.most_temperature_c, vitals.temperature_c
        if now_s < self._cooling_until_s:
            return Level.FULL, "recovered"
        if ceiling_c is not None and temperature_c is not None and temperature_c >= ceiling_c:
            if self.level < Level.STATISTICS:
                return Level(self.level + 1), "temperature"
            return Level.DROP if temperature_c >= ceiling_c + self.policy.hot_margin_c else self.level, "temperature"
        if vitals.throttled is not None and vitals.throttled & THROTTLED_NOW:
            return Level(min(self.level + 1, max(self.level, Level.STATISTICS))), "throttled"
        return Level.FULL, "recovered"

    def _is_scarce(self, vitals: Vitals, more_bytes: int) -> bool:
        available_bytes = vitals.available_bytes
        return available_bytes is not None and available_bytes - more_bytes < self.policy.least_available_bytes

    # Steps

    def _step_down(
        self, asked: Level, why: Reason, frame: int, vitals: Vitals, pressures: list[_Pressure], now_s: float
    ) -> GuardEvent:
        event = self._event(asked, why, frame, vitals, pressures)
        for level in range(self.level, asked):
            self._left(Level(level), now_s)
        self.level = asked
        self._calm_since_s = None
        if why in ("temperature", "throttled"):
            self._cooling_until_s = now_s + self.policy.cool_s
        return event

    def _step_up(
        self, frame: int, vitals: Vitals, pressures: list[_Pressure], transient_bytes: int, now_s: float
    ) -> GuardEvent | None:
        if self.level == Level.FULL or not self._is_calm(vitals, pressures, transient_bytes):
            self._calm_since_s = None
            return None
        if self._calm_since_s is None:
            self._calm_since_s = now_s
        above = Level(self.level - 1)
        if above == Level.SPARSE and not self._would_fit(above, vitals, pressures, transient_bytes):
            above = Level.FULL  # which holds a graph less
        if now_s - self._calm_since_s < self._dwell_s.get(above, self.policy.dwell_s):
            return None
        if not self._would_fit(above, vitals, pressures, transient_bytes):
            return None
        event = self._event(above, "recovered", frame, vitals, pressures)
        self.level = above
        self._reached_s[above] = self._calm_since_s = now_s
        return event

    def _is_calm(self, vitals: Vitals, pressures: list[_Pressure], transient_bytes: int) -> bool:
        ceiling_c, temperature_c = self.policy.most_temperature_c, vitals.temperature_c
        hot = (
            ceiling_c is not None
            and temperature_c is not None
            and temperature_c > ceiling_c - self.policy.calm_margin_c
        )
        throttled = bool((vitals.throttled or 0) & THROTTLED_NOW)
        full = bool(pressures) and pressures[0].share > self.policy.calm_share
        return not (hot or throttled or full or self._is_scarce(vitals, transient_bytes))

    def _would_fit(self, above: Level, vitals: Vitals, pressures: list[_Pressure], transient_bytes: int) -> bool:
        """Whether the memory last seen on the rung above fits into every limit, as far as one knows."""
        alike = Level.FULL if above == Level.SPARSE else above  # whose graph that learns is the same
        if above in self._too_large:
            return False
        seen_bytes = self._seen_bytes.get(above, self._seen_bytes.get(alike))
        if seen_bytes is None or vitals.pss_bytes is None:
            return True
        more_bytes = max(min(seen_bytes) - vitals.pss_bytes - transient_bytes, 0)
        return not self._is_scarce(vitals, transient_bytes + more_bytes) and all(
            pressure.usage_bytes + more_bytes <= self.policy.most_share * pressure.limit_bytes for pressure in pressures
        )

    def _left(self, level: Level, now_s: float) -> None:
        """Remember how long `level` could be held; the next try waits twice as long where that was not long."""
        reached_s = self._reached_s.pop(level, None)
        if reached_s is None:
            return
        dwell_s = self._dwell_s.get(level, self.policy.dwell_s)
        soon = now_s - reached_s < 6 * dwell_s
        self._dwell_s[level] = min(2 * dwell_s, self.policy.longest_dwell_s) if soon else self.policy.dwell_s

    def _event(self, level: Level, why: Reason, frame: int, vitals: Vitals, pressures: list[_Pressure]) -> GuardEvent:
        counted = next((pressure for pressure in pressures if pressure.why == why), pressures[0] if pressures else None)
        return GuardEvent(
            frame,
            self.level,
            level,
            why,
            usage_bytes=vitals.pss_bytes if counted is None else counted.usage_bytes,
            limit_bytes=None if counted is None else counted.limit_bytes,
            available_bytes=vitals.available_bytes,
            temperature_c=vitals.temperature_c,
        )
