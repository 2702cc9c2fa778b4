"""What this machine says of itself: memory, control group limit, cores and instruction set.

Read from /proc and /sys by hand, so that a board needs nothing installed and a test can hand in a folder of its own;
where there is no /proc, psutil answers for the memory.

Sources: proc(5); kernel documentation, admin-guide/cgroup-v1/memory.rst and admin-guide/cgroup-v2.rst; arm64
elf_hwcaps.rst for the names in /proc/cpuinfo.
"""

import os
import platform
from pathlib import Path

__all__ = [
    "available_memory_bytes",
    "cgroup_limit_bytes",
    "cpu_features",
    "cpu_name",
    "total_memory_bytes",
    "usable_cores",
]

_PROC = Path("/proc")
_CGROUP_ROOT = Path("/sys/fs/cgroup")

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


def total_memory_bytes(proc: Path = _PROC) -> int:
    """Memory the kernel has, in bytes (MemTotal)."""
    return _memory_bytes(proc, "MemTotal", "total")


def available_memory_bytes(proc: Path = _PROC) -> int:
    """Memory that new work can have without swapping, in bytes (MemAvailable)."""
    return _memory_bytes(proc, "MemAvailable", "available")


def cgroup_limit_bytes(proc: Path = _PROC, cgroup_root: Path = _CGROUP_ROOT) -> int | None:
    """The memory limit of this process's control group, in bytes: the least one on the way up to the root.

    Args:
        proc: Where procfs is mounted.
        cgroup_root: Where the control groups are mounted, version 1 or 2.

    Returns:
        The limit, or None where there is none.
    """
    limits = []
    for line in _lines(proc / "self" / "cgroup"):
        hierarchy, controllers, path = line.split(":", 2)
        if hierarchy == "0":
            limits += _limits_upwards(cgroup_root, path, "memory.max")
        elif "memory" in controllers.split(","):
            limits += _limits_upwards(cgroup_root / "memory", path, "memory.limit_in_bytes")
    return min(limits, default=None)


def usable_cores() -> int:
    """Cores that this process may run on."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on Linux
        return os.cpu_count() or 1


def cpu_name(proc: Path = _PROC) -> str:
    """The processor's name in its own words, or its architecture where it gives none (most Arm boards)."""
    for line in _lines(proc / "cpuinfo"):
        key, _, value = line.partition(":")
        if key.strip() == "model name" and value.strip():
            return " ".join(value.split())
    return platform.machine() or "unknown"


def cpu_features(proc: Path = _PROC) -> tuple[str, ...]:
    """Instruction set extensions, by the names that device profiles use, sorted."""
    for line in _lines(proc / "cpuinfo"):
        key, _, value = line.partition(":")
        if key.strip() in ("Features", "flags"):
            return tuple(sorted({_FEATURES[word] for word in value.split() if word in _FEATURES}))
    return ()


def _memory_bytes(proc: Path, key: str, psutil_field: str) -> int:
    for line in _lines(proc / "meminfo"):
        name, _, value = line.partition(":")
        if name == key:
            return int(value.split()[0]) * 1024  # "kB" there means KiB
    import psutil

    return int(getattr(psutil.virtual_memory(), psutil_field))


def _limits_upwards(mount: Path, path: str, file_name: str) -> list[int]:
    """Every limit from the group at `path` up to the mount.

    Inside a container the path may be the host's, of which nothing is mounted; the mount itself is then our group.
    """
    parts = [part for part in path.split("/") if part not in ("", "..")]
    groups = [mount.joinpath(*parts[:depth]) for depth in range(len(parts), -1, -1)]
    found = [line.strip() for group in groups for line in _lines(group / file_name)[:1]]
    # Version 2 writes "max" for no limit; version 1 the largest number of whole pages, a little under 2^63.
    return [int(value) for value in found if value.isdecimal() and int(value) < 2**60]


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
