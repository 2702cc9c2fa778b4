"""What this machine says of itself: memory, control group limit, cores, instruction set and temperature.

Sources: kernel documentation, arm64 elf_hwcaps.rst for the names in /proc/cpuinfo and
driver-api/thermal/sysfs-api.rst for the temperature (thousandths of a degree).
"""

import os
import platform
from pathlib import Path

from ecotta_rt.errors import UsageError
from ecotta_rt.machine.control_group import control_groups
from ecotta_rt.machine.proc import PROC, lines, sizes, text

__all__ = [
    "available_memory_bytes",
    "cgroup_limit_bytes",
    "cpu_features",
    "cpu_name",
    "has_bfloat16",
    "highest_temperature_c",
    "meminfo_bytes",
    "require_bfloat16",
    "total_memory_bytes",
    "usable_cores",
]

_CGROUP_ROOT = Path("/sys/fs/cgroup")
_THERMAL = Path("/sys/class/thermal")
_PLAUSIBLE_C = (-40.0, 150.0)  # what lies outside is a sensor that is asleep or broken

_BFLOAT16 = {"avx512_bf16", "amx_bf16", "bf16"}  # /proc/cpuinfo's words; the last one is Arm's

# /proc/cpuinfo's word -> ours. Only what decides which kernels onnxruntime picks.
_FEATURES = {
    "asimd": "neon",
    "asimdhp": "fp16",
    "asimddp": "dotprod",
    "atomics": "lse",
    "bf16": "bf16",
    "i8mm": "i8mm",
    "sve": "sve",
    "avx": "avx",
    "avx2": "avx2",
    "fma": "fma",
    "avx512f": "avx512f",
    "avx512_vnni": "avx512-vnni",
}


def total_memory_bytes(proc: Path = PROC) -> int:
    """Memory the kernel has, in bytes (MemTotal)."""
    return _memory_bytes(proc, "MemTotal", "total")


def available_memory_bytes(proc: Path = PROC) -> int:
    """Memory that new work can have without swapping, in bytes (MemAvailable)."""
    return _memory_bytes(proc, "MemAvailable", "available")


def cgroup_limit_bytes(proc: Path = PROC, cgroup_root: Path = _CGROUP_ROOT) -> int | None:
    """The memory limit of this process's control group, in bytes: the least one on the way up to the root.

    Args:
        proc: Where procfs is mounted.
        cgroup_root: Where the control groups are mounted, version 1 or 2.

    Returns:
        The limit, or None where there is none.
    """
    limits = (group.limit_bytes() for group in control_groups(proc, cgroup_root))
    return min((limit for limit in limits if limit is not None), default=None)


def meminfo_bytes(proc: Path = PROC) -> dict[str, int]:
    """/proc/meminfo: name -> bytes; empty where there is none."""
    return sizes(proc / "meminfo")


def highest_temperature_c(thermal: Path = _THERMAL) -> float | None:
    """The temperature of the hottest thermal zone, in degrees Celsius; None where no zone tells.

    Args:
        thermal: The folder of the zones.
    """
    found = []
    for path in thermal.glob("thermal_zone*/temp"):
        try:
            temperature_c = int(text(path)) / 1000
        except ValueError:  # a zone that is switched off gives an error when read
            continue
        if _PLAUSIBLE_C[0] < temperature_c < _PLAUSIBLE_C[1]:
            found.append(temperature_c)
    return max(found, default=None)


def usable_cores() -> int:
    """Cores that this process may run on."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on Linux
        return os.cpu_count() or 1


def cpu_name(proc: Path = PROC) -> str:
    """The processor's name in its own words, or its architecture where it gives none (most Arm boards)."""
    return " ".join(_cpuinfo(proc, "model name")) or platform.machine() or "unknown"


def cpu_features(proc: Path = PROC) -> tuple[str, ...]:
    """Instruction set extensions, by the names that device profiles use, sorted."""
    return tuple(sorted({_FEATURES[word] for word in _cpuinfo(proc, "Features", "flags") if word in _FEATURES}))


def has_bfloat16(proc: Path = PROC) -> bool | None:
    """Whether the processor multiplies in bfloat16 itself; None where nothing is known of it.

    Without it every such product is taken apart: a training step of a ResNet-18 took 13 to 18 times as long as in
    float32 (one core of an AMD EPYC without AVX-512, torch 2.13).
    """
    words = _cpuinfo(proc, "Features", "flags")
    return None if not words else not _BFLOAT16.isdisjoint(words)


def require_bfloat16(proc: Path = PROC) -> None:
    """Refuse the option `--precision bfloat16` where it would crawl.

    Raises:
        UsageError: `has_bfloat16` says no.
    """
    if has_bfloat16(proc) is False:
        raise UsageError(
            f"--precision bfloat16: this processor ({cpu_name(proc)}) has none of avx512_bf16, amx_bf16 or Arm's bf16, "
            "and would need more than ten times as long as in float32; leave it out"
        )


def _memory_bytes(proc: Path, key: str, psutil_field: str) -> int:
    known = meminfo_bytes(proc)
    if key in known:
        return known[key]
    import psutil

    return int(getattr(psutil.virtual_memory(), psutil_field))


def _cpuinfo(proc: Path, *keys: str) -> list[str]:
    """The words behind the first line of /proc/cpuinfo with one of these keys that has any."""
    for line in lines(proc / "cpuinfo"):
        key, _, value = line.partition(":")
        if key.strip() in keys and value.strip():
            return value.split()
    return []
