"""What widths of a bank cost, kept beside it: the next board is picked for without measuring them again.

    BANK.safetensors   ->   BANK.safetensors.costs.json: of each width that was measured its manifest and milliseconds

Plans need manifests only, and the time is this machine's, so neither is a board's own. What is kept counts for the same
network, way of making bundles, code and machine; of anything else it is left aside and written anew. Where a pick has a
limit of time nothing of it is used: the machine may have been busy then.

A file that says what is not so makes a pick narrower than it need be. It cannot bring one in that does not fit, since
what is picked is exported, planned and timed itself, nor refuse a board: before that all is measured anew.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import onnxruntime
import torch

from ecotta_rt.bundle import MAX_MANIFEST_BYTES, Manifest
from ecotta_rt.errors import InputFileError
from ecotta_rt.exporter.code_digest import code_digest
from ecotta_rt.files.atomic import write_atomic
from ecotta_rt.files.fields import Limit
from ecotta_rt.files.json_text import parse_json
from ecotta_rt.machine.this_machine import cpu_name
from ecotta_rt.prepare.snapshot import weights_digest
from ecotta_rt.student.slimda.device_cost import Bundles, Measured

__all__ = ["costs_path", "keep_costs", "kept_costs"]

_MOST_WIDTHS, _MOST_BYTES = 64, 16 << 20
_TIMED_BY = ("runtime/**/*.py", "student/slimda/device_cost.py")
"""What decides a time, besides what decides a bundle."""

_Name = Annotated[str, Limit(most=200)]


@dataclass(frozen=True)
class _Width:
    """One that was measured.

    Attributes:
        channels: By group.
        ms: A frame, of the adapting step.
        manifest: Text of its bundle's, on one line.
    """

    channels: Annotated[Mapping[_Name, Annotated[int, Limit(1, 1 << 20)]], Limit(most=1 << 12)]
    ms: Annotated[float, Limit(above=0, most=1e7)]
    manifest: Annotated[str, Limit(most=MAX_MANIFEST_BYTES)]


@dataclass(frozen=True)
class _Kept:
    """The file.

    Attributes:
        costs: Version of the format.
        of: What they were measured of.
        widths: Those that were.
    """

    costs: Literal["1"]
    of: Annotated[Mapping[_Name, _Name], Limit(most=64)]
    widths: Annotated[tuple[_Width, ...], Limit(most=_MOST_WIDTHS)]


def costs_path(bank: Path) -> Path:
    """Where those of a bank are kept."""
    return bank.with_name(f"{bank.name}.costs.json")


def keep_costs(path: Path, bundles: Bundles, measured: Sequence[Measured]) -> None:
    """Write what was measured last, whole or not at all. Raises TransferError where it cannot be written."""
    widths = [
        {
            "channels": dict(one.widths),
            "ms": one.cost.ms,
            "manifest": json.dumps(json.loads(one.manifest.to_json()), ensure_ascii=True),
        }
        for one in measured[-_MOST_WIDTHS:]
    ]
    plain = {"costs": "1", "of": _identity(bundles), "widths": widths}
    write_atomic(path, (json.dumps(plain, indent=1) + "\n").encode())


def kept_costs(path: Path, bundles: Bundles) -> list[Measured]:
    """What was measured before, planned for this device; empty where nothing was, or of something else.

    Raises:
        InputFileError: Not such a file, damaged or hostile, or one that may not be read.
    """
    if not path.is_file():
        return []
    try:
        with path.open("rb") as file:
            content = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise InputFileError(f"{path}: cannot be read: {error.strerror}") from error
    if len(content) > _MOST_BYTES:
        raise InputFileError(f"{path}: more than the {_MOST_BYTES} bytes of costs")
    kept = parse_json(content, str(path)).read(_Kept)
    if dict(kept.of) != _identity(bundles):
        return []
    groups = bundles.bank.slimmable.groups.groups
    found = []
    for one in kept.widths:
        if set(one.channels) != set(groups) or any(one.channels[name] > group.size for name, group in groups.items()):
            raise InputFileError(f"{path}: channels that this bank has not: {str(dict(one.channels))[:80]}")
        manifest = Manifest.from_json(one.manifest, f"{path}, manifest")
        found.append(bundles.planned(one.channels, manifest, one.ms))
    return found


def _identity(bundles: Bundles) -> dict[str, str]:
    """What they are the costs of."""
    bank, options = bundles.bank, bundles.options
    return {
        "network": weights_digest(bank.slimmable.network),
        "frame": " x ".join(map(str, (bank.frame.channels, *bank.frame.size))),
        "classes": str(len(bank.classes)),
        "batch": str(bundles.wish.batch),
        "parts": str(bundles.parts),
        "kernel": str(bundles.kernel),
        "step": str(options.step)[:200],
        "code": code_digest(*_TIMED_BY),
        "torch": torch.__version__,
        "onnxruntime": onnxruntime.__version__,
        "processor": cpu_name()[:200],
    }
