"""What a board or phone can give: a profile, read from `devices/*.toml`, from a user's own file, or from this machine.

    id or path  ->  load_device()  ->  DeviceProfile  ->  profile.fits(peak_bytes)

A profile is a list of figures; each has its evidence: where it comes from and how far it can be trusted. Sizes are
whole bytes. The fields are explained in devices/README.md.

Not here: what a network needs on a device (that is the planner's work), and watching memory while it runs.
"""

import difflib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, TypeVar, get_args

from ecotta_rt.errors import UsageError
from ecotta_rt.files.fields import Document, Limit, Matches
from ecotta_rt.files.toml_text import parse_toml, read_toml
from ecotta_rt.machine import this_machine

__all__ = [
    "HOSTS",
    "ISA_FEATURES",
    "MARKS",
    "SCHEMA",
    "THIS_MACHINE",
    "WHEELS",
    "DeviceProfile",
    "Evidence",
    "device_ids",
    "load_device",
    "parse_device",
]

SCHEMA = 1
"""Version of the file format."""

THIS_MACHINE = "this-machine"
"""The id of the profile that is read live."""

Host = Literal["python", "native"]
HOSTS: tuple[str, ...] = get_args(Host)
"""Who runs the step: our Python runtime, or a phone app with its own onnxruntime and no interpreter."""

Mark = Literal["measured", "documented", "estimated"]
MARKS: tuple[str, ...] = get_args(Mark)
"""How far a figure can be trusted: read off such a device; in its maker's documents; derived or chosen by us."""

Wheels = Literal["stock", "container", "none"]
WHEELS: tuple[str, ...] = get_args(Wheels)
"""How onnxruntime gets there: from PyPI on the usual system; only inside a newer system's container; not as a wheel."""

Feature = Literal[
    "neon", "fp16", "dotprod", "lse", "bf16", "i8mm", "sve", "avx", "avx2", "fma", "avx512f", "avx512-vnni"
]
ISA_FEATURES: tuple[str, ...] = get_args(Feature)
"""Instruction set extensions that decide which kernels onnxruntime picks."""

_MEMORY_FIELDS = ("ram_bytes", "visible_bytes", "available_bytes", "default_limit_bytes")
_FIGURES = (*_MEMORY_FIELDS, "cores", "cpu", "isa", "wheels")

# This machine keeps doing its other work, and that grows too; a control group's limit is already somebody's decision.
_SHARE_OF_AVAILABLE = 3 / 4


@dataclass(frozen=True)
class Evidence:
    """Where a figure comes from.

    Attributes:
        mark: One of `MARKS`.
        source: The document, page or reasoning.
    """

    mark: str
    source: str


@dataclass(frozen=True)
class DeviceProfile:
    """What one kind of device gives.

    Attributes:
        id: The name used on command lines.
        name: The name in full.
        host: One of `HOSTS`. A profile with host `native` is a phone app.
        ram_bytes: Memory that is soldered on.
        visible_bytes: Memory that the kernel has (MemTotal), or None where nobody has told.
        available_bytes: Memory left after boot of a system without desktop; on a phone, what one app may have. Or None.
        default_limit_bytes: What we let one process take unless told otherwise.
        cores: Number of cores.
        cpu: The processor, in words.
        isa: Instruction set extensions, of `ISA_FEATURES`.
        wheels: One of `WHEELS`.
        notes: Traps that a user of this device should know, one sentence each.
        evidence: By field name, for every figure above.
    """

    id: str
    name: str
    host: str
    ram_bytes: int
    visible_bytes: int | None
    available_bytes: int | None
    default_limit_bytes: int
    cores: int
    cpu: str
    isa: tuple[str, ...]
    wheels: str
    notes: tuple[str, ...] = ()
    evidence: Mapping[str, Evidence] = field(default_factory=dict, repr=False, hash=False)

    def fits(self, peak_bytes: int) -> bool:
        """Whether a process with this peak stays within the default limit.

        Args:
            peak_bytes: The larger of its load and run peaks.

        >>> load_device("raspberry-pi-zero-2w").fits(120 * 2**20)
        True
        """
        return peak_bytes <= self.default_limit_bytes

    def as_json(self) -> dict[str, object]:
        """The profile as plain values: each figure an object of `value`, `mark` and `source`."""
        plain: dict[str, object] = {"id": self.id, "name": self.name, "host": self.host, "notes": list(self.notes)}
        for key in _FIGURES:
            value = getattr(self, key)
            if value is not None:
                shown = list(value) if isinstance(value, tuple) else value
                evidence = self.evidence[key]
                plain[key] = {"value": shown, "mark": evidence.mark, "source": evidence.source}
        return plain


def device_ids() -> tuple[str, ...]:
    """Every id that `load_device` knows: by name, then by size, `this-machine` last."""
    ids = (path.stem for path in _profile_folder().glob("*.toml"))
    return (*sorted(ids, key=_by_name_and_size), THIS_MACHINE)


def load_device(device: str | os.PathLike[str]) -> DeviceProfile:
    """The profile of a device.

    Args:
        device: One of `device_ids()`, or the path of a profile of your own (it ends in `.toml`).

    Raises:
        UsageError: There is no such device, or no such file.
        ConfigurationError: The file does not say what a profile must; names file, line and field.
        TransferError: The file cannot be read.
    """
    name = os.fspath(device)
    if name == THIS_MACHINE:
        return _read_this_machine()
    if name.endswith(".toml"):
        if not Path(name).is_file():
            raise UsageError(f"no such device profile: {name}")
        return _profile(read_toml(name))
    if name not in device_ids():
        raise UsageError(_unknown_device(name))
    return _profile(read_toml(_profile_folder() / f"{name}.toml"))


def parse_device(content: bytes, origin: str) -> DeviceProfile:
    """The profile written in `content`; `origin` names it in messages. Raises `ConfigurationError`."""
    return _profile(parse_toml(content, origin))


def _profile_folder() -> Path:
    """`devices/`: inside the package when installed from a wheel, beside it in a checkout."""
    package = Path(__file__).parents[1]
    installed = package / "devices"
    return installed if installed.is_dir() else package.parent / "devices"


def _by_name_and_size(device_id: str) -> list[tuple[int, str]]:
    """Sorts raspberry-pi-5-2gb before raspberry-pi-5-16gb."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", device_id)]


def _unknown_device(name: str) -> str:
    known = device_ids()
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {near[0]}?" if near else "."
    return f"unknown device {name!r}{hint} Known: {', '.join(known)}; or the path of a profile ending in .toml"


T = TypeVar("T")

_Id = Annotated[
    str,
    Matches(f"(?!{THIS_MACHINE}$)[a-z0-9]+(-[a-z0-9]+)*", f"lower-case words joined by hyphens, not {THIS_MACHINE}"),
]
_Bytes = Annotated[int, Limit(1, 2**50)]


@dataclass(frozen=True)
class _Figure(Generic[T]):
    """`key = { value = ..., mark = ..., source = ... }`; the source is a key of `[sources]`."""

    value: T
    mark: Mark
    source: str


@dataclass(frozen=True)
class _ProfileFile:
    """What a file of `devices/` holds."""

    id: _Id
    name: str
    host: Host
    ram_bytes: _Figure[_Bytes]
    default_limit_bytes: _Figure[_Bytes]
    cores: _Figure[Annotated[int, Limit(1, 4096)]]
    cpu: _Figure[str]
    isa: _Figure[tuple[Feature, ...]]
    wheels: _Figure[Wheels]
    sources: Mapping[str, str]
    visible_bytes: _Figure[_Bytes] | None = None
    available_bytes: _Figure[_Bytes] | None = None
    notes: tuple[str, ...] = ()


def _profile(document: Document) -> DeviceProfile:
    schema = document.take("schema", int)
    if schema != SCHEMA:
        raise document.error(("schema",), f"this version reads schema {SCHEMA}, the file has {schema}")
    file = document.read(_ProfileFile)
    figures: dict[str, _Figure[Any]] = {key: getattr(file, key) for key in _FIGURES if getattr(file, key) is not None}
    for key, figure in figures.items():
        if figure.source not in file.sources:
            there = ", ".join(file.sources) or "nothing"
            raise document.error((key, "source"), f"{figure.source!r} is not in [sources]; there: {there}")
    _check_memory({key: figures[key].value for key in _MEMORY_FIELDS if key in figures}, document)
    values: dict[str, Any] = {key: figures[key].value if key in figures else None for key in _FIGURES}
    evidence = {key: Evidence(figure.mark, file.sources[figure.source]) for key, figure in figures.items()}
    return DeviceProfile(id=file.id, name=file.name, host=file.host, notes=file.notes, evidence=evidence, **values)


def _check_memory(known: Mapping[str, int], document: Document) -> None:
    """Each of the memory figures is a part of the one before it."""
    for (whole, whole_bytes), (part, part_bytes) in pairwise(known.items()):
        if part_bytes > whole_bytes:
            raise document.error((part,), f"{part_bytes} is more than {whole} = {whole_bytes}, of which it is a part")


def _read_this_machine() -> DeviceProfile:
    total = this_machine.total_memory_bytes()
    limit = this_machine.cgroup_limit_bytes()
    available = this_machine.available_memory_bytes()
    ours = min(total if limit is None else limit, int(available * _SHARE_OF_AVAILABLE))
    meminfo, group = "MemTotal and MemAvailable when asked", "the control group's limit"
    evidence = {
        "ram_bytes": Evidence("measured", meminfo),
        "visible_bytes": Evidence("measured", meminfo if limit is None else f"{meminfo}, and {group}"),
        "available_bytes": Evidence("measured", meminfo if limit is None else f"{meminfo}, and {group}"),
        "default_limit_bytes": Evidence(
            "estimated", f"the lesser of {group} and {_SHARE_OF_AVAILABLE:.0%} of the memory available when asked"
        ),
        "cores": Evidence("measured", "the cores this process may run on"),
        "cpu": Evidence("measured", "/proc/cpuinfo"),
        "isa": Evidence("measured", "/proc/cpuinfo"),
        "wheels": Evidence("estimated", "this program runs here, so its wheels were found"),
    }
    return DeviceProfile(
        id=THIS_MACHINE,
        name="this machine",
        host="python",
        ram_bytes=total,
        visible_bytes=total if limit is None else min(total, limit),
        available_bytes=available if limit is None else min(available, limit),
        default_limit_bytes=ours,
        cores=this_machine.usable_cores(),
        cpu=this_machine.cpu_name(),
        isa=this_machine.cpu_features(),
        wheels="stock",
        notes=("Read when asked: what is available changes from one moment to the next.",),
        evidence=evidence,
    )
