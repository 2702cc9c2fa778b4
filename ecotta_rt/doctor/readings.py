"""Readings of /proc and /sys that several checks share. The folders are arguments, so that a test brings its own."""

from dataclasses import dataclass
from pathlib import Path

__all__ = ["Roots", "first_line", "group_folders", "meminfo_bytes", "memory_is_counted"]


@dataclass(frozen=True)
class Roots:
    """Where the system shows itself.

    Attributes:
        proc: procfs.
        sys: sysfs.
        dev: Device files.
    """

    proc: Path = Path("/proc")
    sys: Path = Path("/sys")
    dev: Path = Path("/dev")


def first_line(path: Path) -> str:
    """Without its end; empty where it cannot be read."""
    return next(iter(_lines(path)), "")


def meminfo_bytes(proc: Path) -> dict[str, int]:
    """/proc/meminfo: name -> bytes; empty where there is none."""
    words = (line.replace(":", " ").split() for line in _lines(proc / "meminfo"))
    # "kB" there means KiB.
    return {word[0]: int(word[1]) * 1024 for word in words if len(word) == 3 and word[1].isdecimal()}


def group_folders(proc: Path, sys: Path, controller: str | None) -> list[Path]:
    """The folders of this process's control group and all above it, innermost first.

    Args:
        proc: procfs.
        sys: sysfs.
        controller: Of version 1; None for version 2, which has one hierarchy.
    """
    mount = sys / "fs" / "cgroup"
    for line in _lines(proc / "self" / "cgroup"):
        hierarchy, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if hierarchy == "0" if controller is None else controller in controllers.split(","):
            top = mount if controller is None else mount / controller
            # Inside a container the path may be the host's, of which nothing is mounted: the top is then our group.
            parts = [part for part in path.split("/") if part not in ("", "..")]
            return [top.joinpath(*parts[:depth]) for depth in range(len(parts), -1, -1)]
    return []


def memory_is_counted(proc: Path, sys: Path) -> bool | None:
    """Whether the kernel enforces memory limits of control groups; None where it does not say."""
    version_2 = sys / "fs" / "cgroup" / "cgroup.controllers"
    if version_2.is_file():
        return "memory" in first_line(version_2).split()
    for line in _lines(proc / "cgroups"):
        words = line.split()
        if words[:1] == ["memory"] and len(words) == 4:
            return words[3] == "1"
    return None


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
