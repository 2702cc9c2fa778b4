"""Checks of the memory: what is left, what a control group allows, and whether the system already swaps."""

from collections.abc import Mapping
from dataclasses import replace

from ecotta_rt.machine.doctor.finding import Finding, ok, problem, warning

__all__ = ["IMPORTS_BYTES", "SMALL_NETWORK_BYTES", "check_group_limit", "check_memory", "check_swap"]

_MIB = 1 << 20

IMPORTS_BYTES = 51 * _MIB
"""Python, numpy and onnxruntime alone, on x86-64. Source: benchmarks/results/device-engine."""

SMALL_NETWORK_BYTES = 91 * _MIB
"""A whole process that adapts WRN-40-2 frame by frame. Source: the same."""

_FREE_MORE = "stop other services, boot without a desktop, or take a board with more memory"


def check_memory(meminfo: Mapping[str, int]) -> Finding:
    """Whether new work fits into what the system has left.

    A warning at the most: that is a matter of the moment, and where the daemon already runs, as it does when a health
    check asks, it has its share. The trial run shows whether it is enough.

    Args:
        meminfo: Name -> bytes, as in /proc/meminfo.
    """
    if "MemTotal" not in meminfo or "MemAvailable" not in meminfo:
        return warning("memory", "/proc/meminfo does not tell", "without Linux's /proc memory is not watched")
    available = meminfo["MemAvailable"]
    says = f"{_mib(available)} MiB available of {_mib(meminfo['MemTotal'])} MiB"
    finding = _judged("memory", available, says, _FREE_MORE)
    return replace(finding, status="warning") if finding.status == "problem" else finding


def check_group_limit(limit_bytes: int | None, counted: bool | None) -> Finding:
    """Whether a control group leaves enough, and whether one could.

    Args:
        limit_bytes: The least limit of our control groups; None where there is none.
        counted: Whether the kernel enforces such limits; None where it does not say.
    """
    if limit_bytes is not None:
        says = f"at most {_mib(limit_bytes)} MiB for this control group"
        return _judged(
            "memory limit", limit_bytes, says, "raise MemoryMax= of the service, or --memory of the container"
        )
    if counted is False:
        return warning(
            "memory limit",
            "the kernel does not count the memory of control groups: limits of systemd and Docker do nothing here",
            "on a Raspberry Pi add cgroup_enable=memory to the line in /boot/firmware/cmdline.txt, and reboot",
        )
    return ok("memory limit", "none set for this control group")


def check_swap(meminfo: Mapping[str, int]) -> Finding:
    """Whether the system is already out of memory: where there is swap, that shows as slowness.

    Args:
        meminfo: Name -> bytes, as in /proc/meminfo.
    """
    total = meminfo.get("SwapTotal", 0)
    if not total:
        return ok("swap", "none: what does not fit is killed")
    used = total - meminfo.get("SwapFree", 0)
    says = f"{_mib(used)} MiB used of {_mib(total)} MiB"
    if used > total // 2:
        return warning("swap", says, f"frames will wait for the disk: {_FREE_MORE}")
    return ok("swap", says)


def _judged(about: str, have_bytes: int, says: str, advice: str) -> Finding:
    if have_bytes < IMPORTS_BYTES:
        short = f"{says}; Python, numpy and onnxruntime alone take about {_mib(IMPORTS_BYTES)}"
        return problem(about, short, advice)
    if have_bytes < SMALL_NETWORK_BYTES:
        short = f"{says}; adapting a small network takes about {_mib(SMALL_NETWORK_BYTES)}"
        return warning(about, short, advice)
    return ok(about, says)


def _mib(size_bytes: int) -> int:
    return size_bytes // _MIB
