"""The control groups that this process lives in, and their memory: limit and usage, the tightest of them first.

A group's usage counts the page cache of every file that its processes have read. The kernel takes such pages away
before it kills anybody, so a group that is full of them is under no pressure; a camera daemon that logs to a file would
look full after a day. Pages that somebody has mapped count all the same: those are programs, libraries and the weights
of a bundle, and without them nothing runs but the disk. So what is taken off the usage is

    inactive_file + active_file - file_mapped        not below 0

Version 2 has two limits. Above memory.max the kernel kills; above memory.high (MemoryHigh= of a service) it takes pages
away and lets the processes wait for it, until hardly anything moves. The lower one counts.

Source: kernel documentation, admin-guide/cgroup-v2.rst (memory.current, memory.max, memory.high, memory.stat) and
admin-guide/cgroup-v1/memory.rst (memory.usage_in_bytes, memory.limit_in_bytes, the total_ fields of memory.stat).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ecotta_rt.machine.proc import PROC, first_line, lines, text

__all__ = [
    "ControlGroup",
    "GroupMemory",
    "control_groups",
    "group_folders",
    "memory_is_counted",
    "tightest",
    "upwards",
]

_CGROUP_ROOT = Path("/sys/fs/cgroup")
_NO_LIMIT = 2**60  # version 1 writes the largest number of whole pages, a little under 2^63


@dataclass(frozen=True)
class GroupMemory:
    """What a group uses of what it may.

    Attributes:
        usage_bytes: What the kernel could not simply take away.
        limit_bytes: Above it the kernel kills, or slows down to nearly nothing.
    """

    usage_bytes: int
    limit_bytes: int


@dataclass(frozen=True)
class ControlGroup:
    """Where a group's figures lie; read anew each time, since a limit may be moved while we run.

    Attributes:
        folder: The group's.
        version: 1 or 2.
    """

    folder: Path
    version: int

    def limit_bytes(self) -> int | None:
        """Its limit; None where it has none, or is gone."""
        names = ("memory.limit_in_bytes",) if self.version == 1 else ("memory.max", "memory.high")
        limits = [limit for name in names if (limit := _number(self.folder / name)) is not None and limit < _NO_LIMIT]
        return min(limits, default=None)

    def memory(self) -> GroupMemory | None:
        """Usage and limit; None where it has no limit, or is gone."""
        limit = self.limit_bytes()
        usage = _number(self.folder / ("memory.usage_in_bytes" if self.version == 1 else "memory.current"))
        if limit is None or usage is None:
            return None
        return GroupMemory(max(usage - self._reclaimable_bytes(), 0), limit)

    def _reclaimable_bytes(self) -> int:
        prefix, mapped = ("total_", "total_mapped_file") if self.version == 1 else ("", "file_mapped")
        stat = dict(line.partition(" ")[::2] for line in lines(self.folder / "memory.stat"))
        inactive, active, in_use = (
            int(value) if (value := stat.get(key, "")).isdecimal() else 0
            for key in (f"{prefix}inactive_file", f"{prefix}active_file", mapped)
        )
        return max(inactive + active - in_use, 0)


def group_folders(controller: str, proc: Path = PROC, cgroup_root: Path = _CGROUP_ROOT) -> Iterator[tuple[int, Path]]:
    """Version and folder of every group that this process is in by way of `controller`, from its own up to the root.

    Inside a container the path in /proc may be the host's, of which nothing is mounted; the mount itself is then ours.
    So not every folder need be there.

    Args:
        controller: Such as `memory`; version 2 has one hierarchy for all.
        proc: Where procfs is mounted.
        cgroup_root: Where the control groups are mounted, version 1 or 2.
    """
    for line in lines(proc / "self" / "cgroup"):
        hierarchy, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if hierarchy == "0":
            yield from ((2, folder) for folder in upwards(cgroup_root, path))
        elif controller in controllers.split(","):
            yield from ((1, folder) for folder in upwards(cgroup_root / controller, path))


def upwards(mount: Path, path: str) -> list[Path]:
    """The folder of the group at `path` and those above it, up to the mount."""
    parts = [part for part in path.split("/") if part not in ("", "..")]
    return [mount.joinpath(*parts[:depth]) for depth in range(len(parts), -1, -1)]


def control_groups(proc: Path = PROC, cgroup_root: Path = _CGROUP_ROOT) -> tuple[ControlGroup, ...]:
    """The groups of this process that count memory, from its own up to the root.

    Args:
        proc, cgroup_root: As for `group_folders`.
    """
    groups = (ControlGroup(folder, version) for version, folder in group_folders("memory", proc, cgroup_root))
    return tuple(group for group in groups if _limit_file(group).is_file())


def tightest(groups: tuple[ControlGroup, ...]) -> GroupMemory | None:
    """Of the groups with a limit the one that uses the largest share of it: not always the one with the least limit."""
    found = [memory for group in groups if (memory := group.memory()) is not None]
    return max(found, key=lambda memory: memory.usage_bytes / max(memory.limit_bytes, 1), default=None)


def memory_is_counted(proc: Path, cgroup_root: Path) -> bool | None:
    """Whether the kernel enforces memory limits of control groups; None where it does not say."""
    version_2 = cgroup_root / "cgroup.controllers"
    if version_2.is_file():
        return "memory" in first_line(version_2).split()
    counted = [words[3] for line in lines(proc / "cgroups") if (words := line.split())[:1] == ["memory"] and words[3:]]
    return counted[0] == "1" if counted else None


def _limit_file(group: ControlGroup) -> Path:
    return group.folder / ("memory.limit_in_bytes" if group.version == 1 else "memory.max")


def _number(path: Path) -> int | None:
    written = text(path).strip()
    return int(written) if written.isdecimal() else None  # version 2 writes "max" for no limit
