"""What the guard watches: one reading of memory, control group, temperature and throttling.

Whatever a system does not tell is None, and never an error: a board without a thermal zone is not guarded against heat.
"""

from dataclasses import dataclass
from pathlib import Path

from ecotta_rt.machine.clock import Clock, SystemClock
from ecotta_rt.machine.control_group import GroupMemory, control_groups, tightest
from ecotta_rt.machine.proc import PROC
from ecotta_rt.machine.process_memory import Held, held_memory, resident_or_none
from ecotta_rt.machine.this_machine import highest_temperature_c, meminfo_bytes
from ecotta_rt.machine.throttling import Firmware

__all__ = ["Vitals", "VitalsReader"]

_SYS = Path("/sys")
_COUNT_EVERY_S = 5.0
_NEAR_BYTES = 2**20


@dataclass(frozen=True)
class Vitals:
    """One reading.

    Attributes:
        pss_bytes: This process's share of memory; see `ecotta_rt.machine.process_memory.Held`.
        private_bytes: What this process has alone.
        group: The tightest control group; see `ecotta_rt.machine.control_group`.
        available_bytes: What new work on this machine can have without swapping (MemAvailable).
        temperature_c: Of the hottest thermal zone.
        throttled: A Raspberry Pi's bits; see `ecotta_rt.machine.throttling`.
    """

    pss_bytes: int | None = None
    private_bytes: int | None = None
    group: GroupMemory | None = None
    available_bytes: int | None = None
    temperature_c: float | None = None
    throttled: int | None = None


class VitalsReader:
    """Reads them; a call is one reading.

    It costs some 200 microseconds on a fast machine. The process's share of memory costs some milliseconds more, so it
    is counted when what is resident has moved by a MiB, or after 5 seconds.

    Args:
        proc: Where procfs is mounted.
        sys: Where sysfs is mounted, with the control groups below fs/cgroup and the zones below class/thermal.
        firmware: Who tells of throttling.
        clock: Tells when the share of memory is due.
    """

    def __init__(
        self, proc: Path = PROC, sys: Path = _SYS, firmware: Firmware | None = None, clock: Clock | None = None
    ) -> None:
        self._proc = proc
        self._clock = clock or SystemClock()
        self._counted: Held | None = None
        self._count_at_s = self._clock.now_s()
        self._thermal = sys / "class" / "thermal"
        # Found once: a process is moved from one group to another when it starts, if ever.
        self._groups = control_groups(proc, sys / "fs" / "cgroup")
        self._firmware = firmware or Firmware()

    def __call__(self) -> Vitals:
        held = self._held()
        return Vitals(
            pss_bytes=None if held is None else held.pss_bytes,
            private_bytes=None if held is None else held.private_bytes,
            group=tightest(self._groups),
            available_bytes=meminfo_bytes(self._proc).get("MemAvailable"),
            temperature_c=highest_temperature_c(self._thermal),
            throttled=self._firmware.throttled(),
        )

    def _held(self) -> Held | None:
        now_s, resident_bytes = self._clock.now_s(), resident_or_none(self._proc)
        counted = self._counted
        if counted is not None and resident_bytes is not None and now_s < self._count_at_s:
            more_bytes = resident_bytes - counted.resident_bytes
            if abs(more_bytes) <= _NEAR_BYTES:
                return _moved(counted, more_bytes)
        self._counted, self._count_at_s = held_memory(self._proc), now_s + _COUNT_EVERY_S
        return self._counted


def _moved(held: Held, more_bytes: int) -> Held:
    """What is new is taken to be this process's alone."""
    private_bytes = None if held.private_bytes is None else held.private_bytes + more_bytes
    return Held(held.resident_bytes + more_bytes, held.pss_bytes + more_bytes, private_bytes)
