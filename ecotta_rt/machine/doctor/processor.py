"""Checks of the processor: instruction set, cores, and the share of them that a control group leaves us.

Source: kernel documentation, admin-guide/cgroup-v2.rst (cpu.max) and scheduler/sched-bwc.rst (cpu.cfs_quota_us).
"""

from pathlib import Path

from ecotta_rt.machine.control_group import group_folders
from ecotta_rt.machine.doctor.finding import Finding, ok, warning
from ecotta_rt.machine.proc import first_line

__all__ = ["check_cores", "check_features", "cpu_quota_cores"]

_ARM = ("aarch64", "arm64")


def check_features(machine: str, features: tuple[str, ...]) -> Finding:
    """What onnxruntime's kernels can use.

    Args:
        machine: As in `platform.machine()`.
        features: As `this_machine.cpu_features` names them.
    """
    if machine in _ARM and "neon" not in features:
        return warning(
            "processor",
            "/proc/cpuinfo names no Arm features; is this an emulator, or a container on another kind of machine?",
            "onnxruntime may pick slow kernels, and no time measured here is a device's",
        )
    if machine in _ARM and not {"dotprod", "fp16"} & set(features):
        return ok("processor", f"{' '.join(features)}: ARMv8.0, as on the Raspberry Pi 3, 4 and Zero 2 W")
    return ok("processor", " ".join(features) or "names no extensions")


def check_cores(usable: int, quota_cores: float | None) -> Finding:
    """How many threads make sense.

    Args:
        usable: Cores that this process may run on.
        quota_cores: Cores' worth of time that the control group has; None for all.
    """
    cores = f"{usable} {'core' if usable == 1 else 'cores'}"
    if quota_cores is None or quota_cores >= usable:
        return ok("cores", f"{cores} usable")
    threads = max(1, int(quota_cores))
    return warning(
        "cores",
        f"{cores} usable, but the control group has time for {quota_cores:g}",
        f"more threads than that stop and wait: ecotta run --threads {threads}, or raise the group's CPU limit",
    )


def cpu_quota_cores(proc: Path, sys: Path) -> float | None:
    """The least CPU quota of this process's control groups, in cores; None where there is none."""
    quotas = [_quota(version, folder) for version, folder in group_folders("cpu", proc, sys / "fs" / "cgroup")]
    return min((quota for quota in quotas if quota is not None), default=None)


def _quota(version: int, folder: Path) -> float | None:
    if version == 2:
        return _ratio(first_line(folder / "cpu.max"))
    return _ratio(f"{first_line(folder / 'cpu.cfs_quota_us')} {first_line(folder / 'cpu.cfs_period_us')}")


def _ratio(text: str) -> float | None:
    """Quota by period. Version 2 writes "max" for no quota, version 1 writes -1."""
    quota, _, period = text.strip().partition(" ")
    if not (quota.isdecimal() and period.isdecimal() and int(period) > 0):
        return None
    return int(quota) / int(period)
