"""Readings of /proc and /sys that several checks share. The folders are arguments, so that a test brings its own."""

from dataclasses import dataclass
from pathlib import Path

__all__ = ["Roots", "first_line", "memory_is_counted"]


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
