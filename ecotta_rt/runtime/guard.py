"""Steps down before the kernel kills: from readings of the machine to a level of the ladder, and to nothing else.

    VitalsReader -> Guard.check -> GuardStep -> the loop, which closes graphs or opens them

Three things ask for a lower level, and the lowest asked for counts:

- **Memory.** This process's share against the limit it was given, its control group's usage against the group's limit,
  and the machine's available memory against a floor. Learning less often frees nothing (it needs a second graph), so
  memory skips the level `sparse`; each check that finds it short goes to the next level that frees some, and far over
  the limit at once to `inference`. Frames are dropped only when nothing else was enough.
- **Heat.** At the ceiling the duty cycle is shortened, then learning ends. Each step is given time to show. Frames are
  dropped only well above the ceiling.
- **Throttling**, where a Raspberry Pi's firmware tells of it: as heat, but it drops nothing.

Up it goes one level at a time, when for a while nothing has asked and memory was well below its limits, and never where
the memory last seen on that level would not fit now (where that is `sparse`, `full` is tried). A level that had to be
left again soon is tried again later, twice as late each time: so it does not flap.

Nothing here touches a graph, a frame or a file; readings and clock are handed in.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import replace

from ecotta_rt.events import GuardStep, Reason
from ecotta_rt.machine.clock import Clock, SystemClock
from ecotta_rt.machine.vitals import Vitals
from ecotta_rt.records import Level
from ecotta_rt.runtime.guard_policy import GuardPolicy
from ecotta_rt.runtime.pressure import Reading

__all__ = ["Guard"]


class Guard:
    """Says which level to be on.

    Args:
        policy: What is too much.
        read: Gives a reading, such as a `VitalsReader`.
        clock: Paces the checks and the waiting.

    Attributes:
        policy: As given.
        level: The present level.
    """

    def __init__(self, policy: GuardPolicy, read: Callable[[], Vitals], clock: Clock | None = None) -> None:
        self.policy = policy
        self.level = Level.FULL
        self._read = read
        self._clock = clock or SystemClock()
        self._next_s: float | None = None
        self._calm_since_s: float | None = None
        self._cooling_until_s = 0.0
        self._short: Reading | None = None  # the reading for which a step in progress was given up
        # This process's memory when last on such a level, twice: a large picture at hand is not what the level takes.
        self._seen_bytes: dict[Level, deque[int]] = {}
        self._dwell_s: dict[Level, float] = {}  # of levels that had to be left again
        self._reached_s: dict[Level, float] = {}  # by steps up
        self._too_large: set[Level] = set()  # levels whose graphs did not get their memory

    def check(self, frame: int = 0, transient_bytes: int = 0) -> GuardStep | None:
        """Take a reading when one is due, and step where it asks for that.

        Args:
            frame: Position in the stream, for the step.
            transient_bytes: What the next batch will take above what is held between two.

        Returns:
            The step; None where the level stays.
        """
        now_s = self._clock.now_s()
        if self._next_s is not None and now_s < self._next_s:
            return None
        self._next_s = now_s + self.policy.check_every_s
        reading = self._take_reading(transient_bytes)
        asked, why = max(self._asked_by_memory(reading), self._asked_by_heat(reading, now_s), key=lambda one: one[0])
        if asked > self.level:
            return self._step_down(asked, why, frame, reading, now_s)
        return self._step_up(frame, reading, now_s)

    def must_not_wait(self) -> bool:
        """Whether memory is so short that a step in progress has to be given up; the next check then goes down for it.

        For another thread, while a batch is learned from. The reading holds the tensors of the step, which are gone at
        the next check: a check that read anew would find room, and one step after the other would be given up.
        """
        level, reading = self.level, Reading(self.policy, self._read())
        short = self._asked_by_memory(reading)[0] > level == self.level
        if short:
            self._short, self._next_s = reading, None
        return short

    def fell_short(self, frame: int, need_bytes: int, limit_bytes: int) -> GuardStep | None:
        """Step down since the graphs of this level have asked for more memory than there is; they are not tried again.

        Args:
            frame: Position in the stream, for the event.
            need_bytes: What was asked for.
            limit_bytes: What there was.

        Returns:
            The step; None on the lowest level.
        """
        if self.level == Level.DROP:
            return None
        alike = (Level.FULL, Level.SPARSE)  # whose graph that learns is the same
        self._too_large.update(alike if self.level in alike else (self.level,))
        asked = Level(max(self.level + 1, Level.STATISTICS))
        step = GuardStep(frame, self.level, asked, "limit", usage_bytes=need_bytes, limit_bytes=limit_bytes)
        self.level, self._calm_since_s = asked, None
        return step

    def cannot_load(self, step: GuardStep, reached: Level) -> GuardStep:
        """The graphs of the level that `step` led to could not be opened.

        Args:
            step: What `check` gave.
            reached: The level that was held instead, below.

        Returns:
            What to tell.
        """
        self._left(step.level, self._clock.now_s())
        self.level, self._calm_since_s = reached, None
        return replace(step, before=max(step.before, step.level), level=reached, why="cannot-load")

    # What readings ask for

    def _take_reading(self, transient_bytes: int) -> Reading:
        """A new reading, or the one for which a step was given up."""
        short, self._short = self._short, None
        reading = Reading(self.policy, self._read(), transient_bytes) if short is None else short
        if reading.vitals.pss_bytes is not None:
            seen_bytes = self._seen_bytes.setdefault(self.level, deque(maxlen=2))
            if short is not None:
                seen_bytes.clear()  # in the midst of a step: better than any guess before it
            seen_bytes.append(reading.vitals.pss_bytes + reading.transient_bytes)
        return reading

    def _asked_by_memory(self, reading: Reading) -> tuple[Level, Reason]:
        next_that_frees = Level(min(max(self.level + 1, Level.STATISTICS), Level.DROP))
        if reading.most_share > self.policy.most_share:
            far = reading.most_share > self.policy.far_share
            return max(next_that_frees, Level.INFERENCE) if far else next_that_frees, reading.pressures[0].why
        if reading.is_scarce():
            return next_that_frees, "available"
        return Level.FULL, "recovered"

    def _asked_by_heat(self, reading: Reading, now_s: float) -> tuple[Level, Reason]:
        if now_s < self._cooling_until_s:
            return Level.FULL, "recovered"
        if reading.excess_c >= 0:
            if self.level < Level.STATISTICS:
                return Level(self.level + 1), "temperature"
            return Level.DROP if reading.excess_c >= self.policy.hot_margin_c else self.level, "temperature"
        if reading.is_throttled:
            return Level(min(self.level + 1, max(self.level, Level.STATISTICS))), "throttled"
        return Level.FULL, "recovered"

    # Steps

    def _step_down(self, asked: Level, why: Reason, frame: int, reading: Reading, now_s: float) -> GuardStep:
        step = self._step(asked, why, frame, reading)
        for level in range(self.level, asked):
            self._left(Level(level), now_s)
        self.level = asked
        self._calm_since_s = None
        if why in ("temperature", "throttled"):
            self._cooling_until_s = now_s + self.policy.cool_s
        return step

    def _step_up(self, frame: int, reading: Reading, now_s: float) -> GuardStep | None:
        if self.level == Level.FULL or not reading.is_calm:
            self._calm_since_s = None
            return None
        if self._calm_since_s is None:
            self._calm_since_s = now_s
        above = Level(self.level - 1)
        if above == Level.SPARSE and not self._would_fit(above, reading):
            above = Level.FULL  # which holds a graph less
        if now_s - self._calm_since_s < self._dwell_s.get(above, self.policy.dwell_s):
            return None
        if not self._would_fit(above, reading):
            return None
        step = self._step(above, "recovered", frame, reading)
        self.level = above
        self._reached_s[above] = self._calm_since_s = now_s
        return step

    def _would_fit(self, above: Level, reading: Reading) -> bool:
        """Whether the memory last seen on the level above fits into every limit, as far as one knows."""
        alike = Level.FULL if above == Level.SPARSE else above  # whose graph that learns is the same
        if above in self._too_large:
            return False
        seen_bytes = self._seen_bytes.get(above, self._seen_bytes.get(alike))
        if seen_bytes is None or reading.vitals.pss_bytes is None:
            return True
        return reading.fits(max(min(seen_bytes) - reading.vitals.pss_bytes - reading.transient_bytes, 0))

    def _left(self, level: Level, now_s: float) -> None:
        """Remember how long `level` could be held; the next try waits twice as long where that was not long."""
        reached_s = self._reached_s.pop(level, None)
        if reached_s is None:
            return
        dwell_s = self._dwell_s.get(level, self.policy.dwell_s)
        soon = now_s - reached_s < 6 * dwell_s
        self._dwell_s[level] = min(2 * dwell_s, self.policy.longest_dwell_s) if soon else self.policy.dwell_s

    def _step(self, level: Level, why: Reason, frame: int, reading: Reading) -> GuardStep:
        counted, vitals = reading.counted(why), reading.vitals
        return GuardStep(
            frame,
            self.level,
            level,
            why,
            usage_bytes=vitals.pss_bytes if counted is None else counted.usage_bytes,
            limit_bytes=None if counted is None else counted.limit_bytes,
            available_bytes=vitals.available_bytes,
            temperature_c=vitals.temperature_c,
        )
