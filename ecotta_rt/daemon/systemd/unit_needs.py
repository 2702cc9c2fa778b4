"""What a service needs of its machine, read from its configuration: the network, devices, folders, memory."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ecotta_rt.bundle import Manifest
from ecotta_rt.daemon.configuration.config import Config
from ecotta_rt.daemon.http.http_options import is_loopback
from ecotta_rt.errors import BudgetExceeded
from ecotta_rt.machine.device import THIS_MACHINE, DeviceProfile, load_device
from ecotta_rt.plan.budget import Wish, plan
from ecotta_rt.runtime.recipe import learns

__all__ = [
    "DIRECTORIES",
    "Folders",
    "MemoryNeed",
    "Reach",
    "folders",
    "memory_need",
    "reach",
    "video_devices",
]

_MIB = 1 << 20

Reach = Literal["none", "local", "all"]
"""Of its network connections: there are none, within this machine, anywhere."""

_WITHIN = {"json-lines", "csv", "socket"}
"""Kinds of output that need no network; of others it is assumed."""

_CAMERA_PREFIXES = {"/dev/": ("char-video4linux",), "picamera:": ("char-video4linux", "char-media", "char-dma_heap")}

DIRECTORIES = {
    "StateDirectory": Path("/var/lib"),
    "LogsDirectory": Path("/var/log"),
    "CacheDirectory": Path("/var/cache"),
    "RuntimeDirectory": Path("/run"),
}
"""Folders in which systemd makes a service its own."""

# What a daemon may take beside the process that the planner knows. How much a decoder holds depends on a camera's
# pictures, which nobody knows yet: some 3 MB each of 1920 x 1080 pixels, and up to 16 of them. Hence the room.
_DAEMON_BYTES = 20 * _MIB
_CAMERA_BYTES = 12 * _MIB
_NETWORK_BYTES = 15 * _MIB
_ROOM = 1.5
_ABOVE_GUARD = 1.1


def reach(config: Config) -> Reach:
    """How far its connections go."""
    if any("://" in camera.source for camera in config.cameras):
        return "all"
    if any(output.kind not in _WITHIN for output in config.sinks):
        return "all"
    if config.http.enabled:
        return "local" if is_loopback(config.http.host) else "all"
    return "none"


def video_devices(config: Config) -> tuple[str, ...]:
    """Groups of devices that its cameras need, as `DeviceAllow=` has them."""
    kinds = [
        kind
        for camera in config.cameras
        for prefix, kinds in _CAMERA_PREFIXES.items()
        if camera.source.startswith(prefix)
        for kind in kinds
    ]
    return tuple(dict.fromkeys(kinds))


@dataclass(frozen=True)
class Folders:
    """Where a service writes.

    Attributes:
        own: Names below each of `DIRECTORIES`.
        others: Folders elsewhere, which must be there and its own.
    """

    own: dict[str, tuple[str, ...]]
    others: tuple[str, ...]


def folders(config: Config, name: str) -> Folders:
    """The folders that a service writes to.

    Args:
        config: What it does.
        name: Of the service; its state and its cache are in folders of this name unless others are named.
    """
    own: dict[str, list[str]] = {"StateDirectory": [], "CacheDirectory": [name]}
    others: list[str] = []
    if config.state.folder is None:
        own["StateDirectory"].append(name)
    for folder in _written(config):
        kind = next((kind for kind, parent in DIRECTORIES.items() if _is_below(folder, parent)), None)
        if kind is None:
            others.append(str(folder))
        else:
            own.setdefault(kind, []).append(str(folder.relative_to(DIRECTORIES[kind])))
    return Folders(
        {kind: tuple(dict.fromkeys(names)) for kind, names in own.items() if names}, tuple(dict.fromkeys(others))
    )


def _written(config: Config) -> Iterator[Path]:
    if config.state.folder is not None:
        yield Path(os.path.abspath(config.state.folder))
    for camera in config.cameras:  # a folder that pictures are taken out of
        folder, _, query = camera.source.removeprefix("watch:").partition("?")
        if camera.source.startswith("watch:") and re.search("after=(move|delete)", query):
            yield Path(os.path.abspath(folder))
    for output in config.sinks:
        for path in output.options.writes:
            if not path.startswith("/dev/"):
                yield Path(os.path.abspath(path)).parent


def _is_below(path: Path, parent: Path) -> bool:
    return path != parent and path.is_relative_to(parent)


@dataclass(frozen=True)
class MemoryNeed:
    """What the kernel's limit of a service is made of.

    Attributes:
        limit_bytes: The limit, `MemoryMax=`.
        why: How it came about, a line each.
    """

    limit_bytes: int
    why: tuple[str, ...]


def memory_need(config: Config, manifest: Manifest) -> MemoryNeed:
    """The kernel's limit: what the plan and the daemon need, with room; above the guard's own limit, which acts first.

    Args:
        config: What the service does.
        manifest: Of the bundle, with the planner's figures.

    Raises:
        BudgetExceeded: It does not fit the device, or the limit of the configuration.
        UsageError: The bundle has no figures for the planner.
    """
    network = config.network
    device = load_device(network.device or THIS_MACHINE)
    learning = learns(manifest) if network.learning is None else network.learning == "on"
    wish = Wish(adapt=learning, threads=network.threads, limit_bytes=network.memory_limit_bytes)
    planned = plan(manifest, device, wish)
    further = _DAEMON_BYTES + _CAMERA_BYTES * (len(config.cameras) - 1) + _NETWORK_BYTES * (reach(config) != "none")
    needed = planned.peak_bytes + further
    allowed = network.memory_limit_bytes or device.default_limit_bytes
    if needed > allowed:
        raise _refused(needed, allowed, planned.largest_tenant, device)
    why = (
        f"planned for {manifest.model} on {device.id}: {_mib(planned.peak_bytes)} MiB; daemon, cameras and outputs "
        f"beside it: {_mib(further)} MiB"
    )
    if network.memory_limit_bytes is not None:
        limit = allowed * _ABOVE_GUARD
        return MemoryNeed(_whole_mib(limit), (why, f"memory_limit is {_mib(allowed)} MiB, and 10 % stand above it"))
    limit = min(needed * _ROOM, allowed * _ABOVE_GUARD)
    return MemoryNeed(_whole_mib(limit), (why, "and room of at most a half, for decoded pictures and files in memory"))


def _refused(needed: int, limit: int, tenant: str, device: DeviceProfile) -> BudgetExceeded:
    return BudgetExceeded(
        f"the daemon needs {_mib(needed)} MiB, {device.id} allows {_mib(limit)} MiB; name fewer cameras or outputs, a "
        "smaller network, or give network.memory_limit",
        need_bytes=needed,
        limit_bytes=limit,
        largest_tenant=tenant,
    )


def _whole_mib(size: float) -> int:
    return -(-int(size) // _MIB) * _MIB


def _mib(size: float) -> str:
    return f"{size / _MIB:.0f}"
