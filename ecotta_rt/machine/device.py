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

from ecotta_rt.errors import UsageError
from ecotta_rt.files.toml_file import TomlTable, parse_toml, read_toml
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

HOSTS = ("python", "native")
"""Who runs the step: our Python runtime, or a phone app with its own onnxruntime and no interpreter."""

MARKS = ("measured", "documented", "estimated")
"""How far a figure can be trusted: read off such a device; in its maker's documents; derived or chosen by us."""

WHEELS = ("stock", "container", "none")
"""How onnxruntime gets there: from PyPI on the usual system; only inside a newer system's container; not as a wheel."""

ISA_FEATURES = (
    *("neon", "fp16", "dotprod", "lse", "bf16", "i8mm", "sve"),
    *("avx", "avx2", "fma", "avx512f", "avx512-vnni"),
)
"""Instruction set extensions that decide which kernels onnxruntime picks."""

_MEMORY_FIELDS = ("ram_bytes", "visible_bytes", "available_bytes", "default_limit_bytes")
_MOST_BYTES = 2**50
_MOST_CORES = 4096
_ID = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")

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
        for key in (*_MEMORY_FIELDS, "cores", "cpu", "isa", "wheels"):
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


def _profile(table: TomlTable) -> DeviceProfile:
    _check_schema(table)
    figures = _Figures(table)
    profile = DeviceProfile(
        id=_take_id(table),
        name=table.take("name", str),
        host=_take_choice(table, "host", HOSTS),
        notes=table.take_strings("notes") if table.has("notes") else (),
        ram_bytes=figures.count("ram_bytes", _MOST_BYTES),
        visible_bytes=figures.count_or_none("visible_bytes", _MOST_BYTES),
        available_bytes=figures.count_or_none("available_bytes", _MOST_BYTES),
        default_limit_bytes=figures.count("default_limit_bytes", _MOST_BYTES),
        cores=figures.count("cores", _MOST_CORES),
        cpu=figures.text("cpu"),
        isa=figures.features("isa"),
        wheels=figures.choice("wheels", WHEELS),
        evidence=figures.evidence,
    )
    figures.sources.refuse_the_rest()
    table.refuse_the_rest()
    _check_memory(table, profile)
    return profile


def _check_schema(table: TomlTable) -> None:
    schema = table.take("schema", int)
    if schema != SCHEMA:
        raise table.error("schema", f"this version reads schema {SCHEMA}, the file has {schema}")


def _take_id(table: TomlTable) -> str:
    device_id = table.take("id", str)
    if not _ID.fullmatch(device_id) or device_id == THIS_MACHINE:
        raise table.error("id", f"expected lower-case words joined by hyphens, not {THIS_MACHINE}, found {device_id!r}")
    return device_id


def _take_choice(table: TomlTable, key: str, choices: tuple[str, ...]) -> str:
    value = table.take(key, str)
    if value not in choices:
        raise table.error(key, f"expected one of {', '.join(choices)}, found {value!r}")
    return value


def _check_memory(table: TomlTable, profile: DeviceProfile) -> None:
    """Each of the memory figures is a part of the one before it."""
    known = [(key, getattr(profile, key)) for key in _MEMORY_FIELDS if getattr(profile, key) is not None]
    for (whole, whole_bytes), (part, part_bytes) in pairwise(known):
        if part_bytes > whole_bytes:
            raise table.error(part, f"{part_bytes} is more than {whole} = {whole_bytes}, of which it is a part")


class _Figures:
    """Takes `key = { value = ..., mark = ..., source = ... }` out of a profile, and keeps the evidence."""

    def __init__(self, table: TomlTable) -> None:
        self._table = table
        self.sources = table.take_table("sources")
        self._texts = {key: self.sources.take(key, str) for key in self.sources.keys()}
        self.evidence: dict[str, Evidence] = {}

    def count(self, key: str, most: int) -> int:
        figure = self._open(key)
        value = figure.take("value", int)
        if not 1 <= value <= most:
            raise figure.error("value", f"expected 1 to {most}, found {value}")
        return value

    def count_or_none(self, key: str, most: int) -> int | None:
        return self.count(key, most) if self._table.has(key) else None

    def text(self, key: str) -> str:
        return self._open(key).take("value", str)

    def choice(self, key: str, choices: tuple[str, ...]) -> str:
        return _take_choice(self._open(key), "value", choices)

    def features(self, key: str) -> tuple[str, ...]:
        figure = self._open(key)
        values = figure.take_strings("value")
        for value in values:
            if value not in ISA_FEATURES:
                raise figure.error("value", f"unknown feature {value!r}; known: {', '.join(ISA_FEATURES)}")
        return values

    def _open(self, key: str) -> TomlTable:
        """Take the evidence out, leaving the value for the caller."""
        figure = self._table.take_table(key)
        mark = _take_choice(figure, "mark", MARKS)
        source = figure.take("source", str)
        if source not in self._texts:
            raise figure.error(
                "source", f"{source!r} is not in [sources]; there: {', '.join(self._texts) or 'nothing'}"
            )
        unknown = set(figure.keys()) - {"value"}
        if unknown:
            raise figure.error(min(unknown), "unknown field; known here: mark, source, value")
        self.evidence[key] = Evidence(mark, self._texts[source])
        return figure


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
