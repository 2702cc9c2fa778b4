"""What the kernel says about this process's memory: resident now, resident at the worst moment.

Read from /proc/self/status. `getrusage().ru_maxrss` would be shorter and lies: it survives exec, so the child of a
large parent reports its parent's peak. The peak (VmHWM) can be set back to the present, which parts running from
loading.

Source: proc(5), /proc/pid/status and /proc/pid/clear_refs.
"""

from pathlib import Path

from ecotta_rt.errors import Unavailable

__all__ = ["peak_resident_bytes", "reset_peak", "resident_bytes"]

_STATUS = Path("/proc/self/status")
_CLEAR_REFS = Path("/proc/self/clear_refs")
_RESET_PEAK = "5"  # proc(5): "reset the peak resident set size high water mark"


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
    try:
        lines = _STATUS.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError as error:
        raise Unavailable(f"{_STATUS} cannot be read ({error.strerror}); memory is measured on Linux only") from error
    for line in lines:
        name, _, value = line.partition(":")
        if name == field:
            return int(value.split()[0]) * 1024  # the kernel writes "kB" and means KiB
    raise Unavailable(f"{_STATUS} has no {field}; memory is measured on Linux with a usual kernel only")
