"""The list of checks, with the readings that each needs; `--quick` leaves out what takes memory or time."""

import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ecotta_rt.machine import this_machine
from ecotta_rt.machine.control_group import memory_is_counted
from ecotta_rt.machine.device import DeviceProfile
from ecotta_rt.machine.doctor import memory, processor, session, software, surroundings
from ecotta_rt.machine.doctor.finding import Finding, ok, warning
from ecotta_rt.machine.proc import PROC

__all__ = ["Roots", "check_board", "examine"]

_MIB = 1 << 20


@dataclass(frozen=True)
class Roots:
    """Where the system shows itself; a test brings folders of its own.

    Attributes:
        proc: procfs.
        sys: sysfs.
        dev: Device files.
    """

    proc: Path = PROC
    sys: Path = Path("/sys")
    dev: Path = Path("/dev")


def examine(
    state_folder: Path, *, quick: bool = False, profile: DeviceProfile | None = None, roots: Roots | None = None
) -> tuple[Finding, ...]:
    """Look at everything that decides whether the runtime works here.

    Args:
        state_folder: Where learned states are to be saved.
        quick: Only checks that are cheap in memory and time: no onnxruntime is started, no camera looked for. For a
            health check, which must not take the memory of what it checks.
        profile: The board this is said to be; None for no comparison.
        roots: Where the system shows itself; the real ones where None.

    Returns:
        The findings, in the order of the report.
    """
    roots = roots or Roots()
    temperature_c = this_machine.highest_temperature_c(roots.sys / "class" / "thermal")
    findings = [*_software(), *_memory(roots), surroundings.check_temperature(temperature_c)]
    findings.append(surroundings.check_state_folder(state_folder))
    if profile is not None:
        features = this_machine.cpu_features(roots.proc)
        cores = this_machine.usable_cores()
        findings.append(check_board(profile, this_machine.meminfo_bytes(roots.proc), features, cores))
    if not quick:
        findings += _slower(roots)
    return tuple(findings)


def _software() -> list[Finding]:
    bits = software.pointer_bits()
    return [
        software.check_python(tuple(sys.version_info[:3]), bits),
        software.check_architecture(platform.machine(), bits),
        software.check_c_library(software.our_c_library()),
        *(software.check_package(package, software.installed_version(package.name)) for package in software.PACKAGES),
    ]


def _memory(roots: Roots) -> list[Finding]:
    meminfo = this_machine.meminfo_bytes(roots.proc)
    limit = this_machine.cgroup_limit_bytes(roots.proc, roots.sys / "fs" / "cgroup")
    return [
        memory.check_memory(meminfo),
        memory.check_group_limit(limit, memory_is_counted(roots.proc, roots.sys / "fs" / "cgroup")),
        memory.check_swap(meminfo),
    ]


def _slower(roots: Roots) -> list[Finding]:
    cores = this_machine.usable_cores()
    return [
        processor.check_features(platform.machine(), this_machine.cpu_features(roots.proc)),
        processor.check_cores(cores, processor.cpu_quota_cores(roots.proc, roots.sys)),
        surroundings.check_cameras(surroundings.cameras(roots.dev, roots.sys)),
        session.check_session(session.run_child(cores)),
    ]


def check_board(profile: DeviceProfile, meminfo: Mapping[str, int], features: tuple[str, ...], cores: int) -> Finding:
    """Whether plans made for `profile` hold here.

    Args:
        profile: The board.
        meminfo: Name -> bytes, as in /proc/meminfo.
        features: Instruction set extensions, as `this_machine.cpu_features` names them.
        cores: Cores that this process may run on.
    """
    about = profile.id
    if profile.host != "python":
        return warning(
            about, "the profile of a phone's app, which has no Python", "examine the phone with the app that you build"
        )
    differences = _differences(profile, meminfo, features, cores)
    if differences:
        advice = "plans for that board do not hold here: take the right profile, or this-machine"
        return warning(about, f"this machine differs: {'; '.join(differences)}", advice)
    return ok(about, f"its {profile.default_limit_bytes // _MIB} MiB limit, cores and instructions are there")


def _differences(
    profile: DeviceProfile, meminfo: Mapping[str, int], features: tuple[str, ...], cores: int
) -> list[str]:
    found = []
    available = meminfo.get("MemAvailable")
    if available is not None and available < profile.default_limit_bytes:
        limit = profile.default_limit_bytes // _MIB
        found.append(f"{available // _MIB} MiB are available, its default limit is {limit}")
    if cores < profile.cores:
        found.append(f"{cores} usable cores, not {profile.cores}")
    missing = [feature for feature in profile.isa if feature not in features]
    if missing:
        found.append(f"its processor lacks {' '.join(missing)}")
    return found
