"""One reading of the machine beside what it is allowed: how near the limits are, and nothing about what to do."""

import math
from dataclasses import dataclass
from functools import cached_property

from ecotta_rt.events import Reason
from ecotta_rt.machine.throttling import THROTTLED_NOW
from ecotta_rt.machine.vitals import Vitals
from ecotta_rt.runtime.guard_policy import GuardPolicy

__all__ = ["Pressure", "Reading"]


@dataclass(frozen=True)
class Pressure:
    """One of the limits: what is used of it."""

    why: Reason
    usage_bytes: int
    limit_bytes: int

    @property
    def share(self) -> float:
        return self.usage_bytes / max(self.limit_bytes, 1)


@dataclass(frozen=True)
class Reading:
    """What was read, against a policy.

    Attributes:
        policy: What is too much.
        vitals: What was read.
        transient_bytes: What the next batch will take above what is held between two.
    """

    policy: GuardPolicy
    vitals: Vitals
    transient_bytes: int = 0

    @cached_property
    def pressures(self) -> list[Pressure]:
        """Every limit there is, the one most used first."""
        vitals, limit_bytes, found = self.vitals, self.policy.limit_bytes(), []
        if limit_bytes is not None and vitals.pss_bytes is not None:
            found.append(Pressure("limit", vitals.pss_bytes + self.transient_bytes, limit_bytes))
        if vitals.group is not None:
            usage_bytes = vitals.group.usage_bytes + self.transient_bytes
            found.append(Pressure("control-group", usage_bytes, vitals.group.limit_bytes))
        return sorted(found, key=lambda pressure: -pressure.share)

    @property
    def most_share(self) -> float:
        """Of the limit most used; 0 where there is none."""
        return self.pressures[0].share if self.pressures else 0.0

    def is_scarce(self, more_bytes: int = 0) -> bool:
        """Whether the machine would be short of available memory with so much more."""
        available_bytes = self.vitals.available_bytes
        more_bytes += self.transient_bytes
        return available_bytes is not None and available_bytes - more_bytes < self.policy.least_available_bytes

    def fits(self, more_bytes: int) -> bool:
        """Whether so much more would be within every limit."""
        return not self.is_scarce(more_bytes) and all(
            pressure.usage_bytes + more_bytes <= self.policy.most_share * pressure.limit_bytes
            for pressure in self.pressures
        )

    @property
    def excess_c(self) -> float:
        """Degrees above the ceiling; minus infinity where either is not known."""
        ceiling_c, temperature_c = self.policy.most_temperature_c, self.vitals.temperature_c
        return -math.inf if ceiling_c is None or temperature_c is None else temperature_c - ceiling_c

    @property
    def is_throttled(self) -> bool:
        return bool((self.vitals.throttled or 0) & THROTTLED_NOW)

    @property
    def is_calm(self) -> bool:
        """Whether nothing is near a limit."""
        cool = self.excess_c <= -self.policy.calm_margin_c
        return cool and not self.is_throttled and self.most_share <= self.policy.calm_share and not self.is_scarce()

    def counted(self, why: Reason) -> Pressure | None:
        """The limit that was the reason, or the one most used."""
        return next((pressure for pressure in self.pressures if pressure.why == why), next(iter(self.pressures), None))
