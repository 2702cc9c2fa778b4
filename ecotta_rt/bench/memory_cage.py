"""A hard limit on memory: a control group of its own for a process, without swap; the kernel kills what exceeds it.

    with MemoryCage(200_000_000) as cage:
        subprocess.run(cage.command(["ecotta", "run", ...]))
        cage.held()  # peak and kills

This is what a device does to a process; RLIMIT_AS is not: it counts addresses, of which a process reserves far more
than it ever touches.

What a group is charged for is not what the process has resident. Pages of files count too, the recording it reads among
them, and the kernel takes those back before it kills; pages that another process had read first (libraries that the
parent uses as well) are charged to that one. So a group's peak stands beside the process's own, never in its place.

Source: kernel documentation, admin-guide/cgroup-v1/memory.rst and admin-guide/cgroup-v2.rst; proc(5) for oom_score_adj.
"""

import contextlib
import itertools
import os
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from ecotta_rt.errors import TransferError, Unavailable
from ecotta_rt.machine.control_group import group_folders
from ecotta_rt.machine.this_machine import cgroup_limit_bytes, total_memory_bytes

__all__ = ["CageRecord", "MemoryCage", "leave_cage", "limit_in_words"]

_PROC = Path("/proc")
_CGROUP_ROOT = Path("/sys/fs/cgroup")
_MEMBERS = "cgroup.procs"

# The process joins before it becomes the program, so that not one page of that escapes. A parent that is protected from
# the kernel's killer (OOMScoreAdjust of a service) passes that on, and a group in which nothing can be killed hangs.
_JOIN = f'echo $$ >"$0/{_MEMBERS}" || exit 125; {{ echo 1000 >/proc/self/oom_score_adj; }} 2>/dev/null || :; exec "$@"'
_REMOVAL_TRIES, _REMOVAL_PAUSE_S = 100, 0.02  # a killed process gives its memory back a moment later

_numbers = itertools.count()


@dataclass(frozen=True)
class CageRecord:
    """What a control group has seen.

    Attributes:
        peak_bytes: The most it was charged for; None where the kernel does not tell (version 2 before Linux 5.19).
        oom_kills: Processes of it that the kernel killed because the limit was reached.
    """

    peak_bytes: int | None
    oom_kills: int


class _Files(NamedTuple):
    """How a version of control groups calls its files."""

    limit: str
    peak: str
    events: str


_FILES = {
    1: _Files("memory.limit_in_bytes", "memory.max_usage_in_bytes", "memory.oom_control"),
    2: _Files("memory.max", "memory.peak", "memory.events"),
}


class MemoryCage:
    """A control group with a memory limit and no swap, there from `with` to the end of its block.

    The group is made below the one that this process is in, so its limits go on to count. With version 2 a group that
    has processes gives no memory limits to groups below it; there the new one is made beside ours, or further up.

    Args:
        limit_bytes: The limit.
        proc: Where procfs is mounted.
        cgroup_root: Where the control groups are mounted, version 1, 2 or both.

    Attributes:
        limit_bytes: The limit.
        version: 1 or 2; known inside the block.
        way_out: For `leave_cage`; known inside the block.

    Raises:
        Unavailable: When the block begins: no group may be made here, or this machine has less memory than the limit.
        TransferError: When the block ends: the group cannot be removed.
    """

    def __init__(self, limit_bytes: int, *, proc: Path = _PROC, cgroup_root: Path = _CGROUP_ROOT) -> None:
        self.limit_bytes = limit_bytes
        self._proc, self._cgroup_root = proc, cgroup_root
        self._group: Path | None = None

    def __enter__(self) -> "MemoryCage":
        self._refuse_what_cannot_bind()
        self.version, (own, *above) = _memory_groups(self._proc, self._cgroup_root)
        self.way_out = str(own / _MEMBERS)
        reasons = []
        for parent in (own, *above):
            try:
                self._group = self._open_below(parent)
            except OSError as error:
                reasons.append(f"{error.filename or parent}: {error.strerror or error}")
            else:
                return self
        raise Unavailable(
            f"no memory control group can be made here (version {self.version}): {'; '.join(reasons)}. It takes root, "
            "or a session of systemd's that lets users make groups: systemd-run --user --scope COMMAND"
        )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        group, self._group = self._open, None
        if not _removed(group) and error is None:
            raise TransferError(f"control group {group} cannot be removed: processes in it do not end; rmdir it later")

    def command(self, command: Sequence[str]) -> tuple[str, ...]:
        """The command that runs `command` inside: the same process, which joins the group and then becomes the program.

        Its exit code is 125 where it could not join.
        """
        return ("/bin/sh", "-c", _JOIN, str(self._open), *command)

    def held(self) -> CageRecord:
        """What the group has seen so far."""
        peak = self._open / _FILES[self.version].peak
        events = (self._open / _FILES[self.version].events).read_text(encoding="ascii").split()
        counts = dict(zip(events[::2], events[1::2], strict=True))
        return CageRecord(
            peak_bytes=int(peak.read_text(encoding="ascii")) if peak.exists() else None,
            oom_kills=int(counts.get("oom_kill", 0)),
        )

    @property
    def _open(self) -> Path:
        if self._group is None:
            raise RuntimeError("a MemoryCage is there inside its `with` block only")
        return self._group

    def _refuse_what_cannot_bind(self) -> None:
        there = total_memory_bytes(self._proc)
        ours = cgroup_limit_bytes(self._proc, self._cgroup_root)
        least = there if ours is None else min(there, ours)
        if least < self.limit_bytes:
            raise Unavailable(
                f"a limit of {limit_in_words(self.limit_bytes)} cannot be enforced: a process can have no more than "
                f"{limit_in_words(least)}, and meets that end first; take a smaller limit or a larger machine"
            )

    def _open_below(self, parent: Path) -> Path:
        """Make the group; where not all of it can be had, nothing is left."""
        if self.version == 2:
            _give_memory_limits_below(parent)
        group = parent / f"ecotta-{os.getpid()}-{next(_numbers)}"
        os.mkdir(group)
        try:
            if self.version == 1:
                _close_v1(group, self.limit_bytes)
            else:
                _close_v2(group, self.limit_bytes, self._proc)
        except BaseException:
            os.rmdir(group)
            raise
        return group


def leave_cage(way_out: str) -> None:
    """Move this process out of its cage: what it takes from now on is neither limited nor counted there.

    Args:
        way_out: The cage's `way_out`.

    Raises:
        Unavailable: It is not allowed to.
    """
    try:
        _write(Path(way_out), "0")  # the process that writes
    except OSError as error:
        raise Unavailable(
            f"{way_out}: the measured process cannot leave its control group ({error.strerror})"
        ) from error


def limit_in_words(limit_bytes: int) -> str:
    """A limit in both kinds of millions.

    >>> limit_in_words(200_000_000)
    '200 MB (190.7 MiB)'
    """
    return f"{limit_bytes / 10**6:.10g} MB ({limit_bytes / 2**20:.1f} MiB)"


def _memory_groups(proc: Path, cgroup_root: Path) -> tuple[int, list[Path]]:
    """Version of the hierarchy that counts memory; our group in it and those above, up to the mount."""
    found = list(group_folders("memory", proc, cgroup_root))
    version = min((version for version, _ in found), default=0)
    if version == 2 and not (cgroup_root / "cgroup.controllers").is_file():  # mounted beside version 1
        found = list(group_folders("memory", proc, cgroup_root / "unified"))
    folders = [folder for number, folder in found if number == version]
    if not folders:
        raise Unavailable(f"no memory control groups here: {proc / 'self' / 'cgroup'} names none; they are Linux's")
    # Inside a container the path may be the host's, of which nothing is mounted; the mount itself is then our group.
    return version, [folder for folder in folders if folder.is_dir()] or folders[-1:]


def _give_memory_limits_below(parent: Path) -> None:
    switch = parent / "cgroup.subtree_control"
    if "memory" in switch.read_text(encoding="ascii").split():
        return
    if "memory" not in (parent / "cgroup.controllers").read_text(encoding="ascii").split():
        raise OSError(None, "it has no memory controller", str(parent))
    _write(switch, "+memory")


def _close_v1(group: Path, limit_bytes: int) -> None:
    _write(group / _FILES[1].limit, str(limit_bytes))
    # In this order: memory and swap together cannot be less than memory alone.
    together = group / "memory.memsw.limit_in_bytes"
    if together.exists():
        _write(together, str(limit_bytes))
    # In a group, unlike for the whole machine, 0 keeps the kernel from swapping at all.
    _write(group / "memory.swappiness", "0")


def _close_v2(group: Path, limit_bytes: int, proc: Path) -> None:
    _write(group / _FILES[2].limit, str(limit_bytes))
    swap, whole = group / "memory.swap.max", group / "memory.oom.group"
    if swap.exists():
        _write(swap, "0")
    elif _machine_swaps(proc):
        raise OSError(None, "this machine swaps, and its kernel does not limit that by group", str(swap))
    if whole.exists():
        _write(whole, "1")  # no half of a program stays alive


def _machine_swaps(proc: Path) -> bool:
    try:
        return len((proc / "swaps").read_text(encoding="ascii", errors="replace").splitlines()) > 1  # under its heading
    except OSError:
        return False


def _removed(group: Path) -> bool:
    """Kill what is left in the group, and remove it."""
    for _ in range(_REMOVAL_TRIES):
        for pid in _members(group):
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        try:
            os.rmdir(group)
        except OSError:
            time.sleep(_REMOVAL_PAUSE_S)
        else:
            return True
    return False


def _members(group: Path) -> Iterator[int]:
    try:
        words = (group / _MEMBERS).read_text(encoding="ascii").split()
    except OSError:
        return
    # 0 stands for a process that this pid namespace cannot see; to kill(2) it means all of our own process group.
    yield from (int(word) for word in words if int(word) > 0)


def _write(path: Path, text: str) -> None:
    # Not write_text: a file that is missing must not be made where a test or a strange mount would let it.
    file = os.open(path, os.O_WRONLY | os.O_TRUNC)
    try:
        os.write(file, text.encode("ascii"))
    finally:
        os.close(file)
