"""What the kernel says about this process's memory: resident now, its share of it, resident at the worst moment.

Read from /proc/self (`ecotta_rt.machine.proc` says why by hand): `getrusage().ru_maxrss` lies, since it survives exec,
so that the child of a large parent reports its parent's peak. The peak (VmHWM) can be set back to the present, which
parts running from loading.

Source: proc(5), /proc/pid/status, /proc/pid/smaps_rollup and /proc/pid/clear_refs.
"""

from dataclasses import dataclass
from pathlib import Path

from ecotta_rt.errors import Unavailable
from ecotta_rt.machine.proc import PROC, sizes

__all__ = ["Held", "held_memory", "peak_resident_bytes", "reset_peak", "resident_bytes", "resident_or_none"]

_STATUS = Path("/proc/self/status")
_CLEAR_REFS = Path("/proc/self/clear_refs")
_RESET_PEAK = "5"  # proc(5): "reset the peak resident set size high water mark"


@dataclass(frozen=True)
class Held:
    """Memory of this process now.

    Attributes:
        resident_bytes: All of it that is in RAM (VmRSS).
        pss_bytes: Its proportional set size: what it has alone, and its share of what it has with others. Where the
            kernel does not tell (before 4.14, or under some emulators), what is resident, which is never less.
        private_bytes: What it has alone, and would be free without it; None where the kernel does not tell.
    """

    resident_bytes: int
    pss_bytes: int
    private_bytes: int | None


def held_memory(proc: Path = PROC) -> Held | None:
    """What this process has in RAM now; None on a system that does not tell (not Linux).

    The kernel adds up the shares page by page: 20 microseconds a MiB on a fast machine, so some milliseconds a call.

    Args:
        proc: Where procfs is mounted.
    """
    resident = resident_or_none(proc)
    if resident is None:
        return None
    rollup = sizes(proc / "self" / "smaps_rollup")
    if "Pss" not in rollup:
        return Held(resident, resident, None)
    return Held(resident, rollup["Pss"], rollup.get("Private_Clean", 0) + rollup.get("Private_Dirty", 0))


def resident_or_none(proc: Path = PROC) -> int | None:
    """As `resident_bytes`, and None on a system that does not tell. Costs some 50 microseconds whatever the size."""
    return sizes(proc / "self" / "status").get("VmRSS")


def resident_bytes() -> int:
    """Memory of this process that is in RAM now (VmRSS), in bytes.

    Raises:
        Unavailable: This system has no /proc/self/status (it is not Linux).
    """
    return _status_bytes("VmRSS")


def peak_resident_bytes() -> int:
    """The most memory this process had in RAM since it began or since `reset_peak` (VmHWM), in bytes.

    Raises:
        Unavailable: This system has no /proc/self/status (it is not Linux).
    """
    return _status_bytes("VmHWM")


def reset_peak() -> None:
    """Let the peak start again from what is resident now.

    Raises:
        Unavailable: The kernel does not take the request (not Linux, or a sandbox without /proc/self/clear_refs).
    """
    try:
        _CLEAR_REFS.write_text(_RESET_PEAK, encoding="ascii")
    except OSError as error:
        raise Unavailable(
            f"the memory peak of the process cannot be reset: {_CLEAR_REFS}: {error.strerror}; "
            "memory is measured on Linux with a writable /proc"
        ) from error


def _status_bytes(field: str) -> int:
    found = sizes(_STATUS)
    if field not in found:
        raise Unavailable(f"{_STATUS} has no {field}; memory is measured on Linux with a usual kernel only")
    return found[field]
