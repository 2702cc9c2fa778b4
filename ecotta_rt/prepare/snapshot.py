"""What a training run leaves again and again, so that an interrupted one goes on: a file that knows its run.

`save_snapshot` writes it whole or not at all; `read_snapshot` gives it back to the run that left it, and to no other.
"""

import hashlib
import io
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ecotta_rt.errors import InputFileError
from ecotta_rt.files.atomic import write_atomic

__all__ = [
    "RunIdentity",
    "array_digest",
    "forget_other",
    "read_snapshot",
    "require_known",
    "save_snapshot",
    "weights_digest",
]

RunIdentity = Mapping[str, str]
"""What must not have changed when a run is taken up again: the name of each thing and its value, for messages."""

_RUN = "run"
_PIECE_BYTES = 2**24


def save_snapshot(path: Path | None, run: RunIdentity, parts: Mapping[str, Any]) -> None:
    """Write `parts` (tensors, state dicts, plain values) and whose they are; nothing where `path` is None.

    Raises:
        TransferError: It cannot be written; what was there before is still there.
    """
    if path is None:
        return
    content = io.BytesIO()
    torch.save({**parts, _RUN: dict(run)}, content)
    write_atomic(path, content.getvalue())


def read_snapshot(path: Path | None, run: RunIdentity) -> dict[str, Any] | None:
    """The parts that `save_snapshot` of the same run left; None where there is no file.

    Raises:
        InputFileError: It is damaged, or of another run; the message says in what that one differed.
    """
    if path is None or not path.exists():
        return None
    saved = _load(path)
    if saved[_RUN] != dict(run):
        raise _of_another_run(path, saved[_RUN], run)
    return saved


def require_known(path: Path, known: RunIdentity) -> None:
    """Refuse a snapshot that `read_snapshot` will refuse, by what is known of the run before its data are read.

    Raises:
        InputFileError: As `read_snapshot`.
    """
    if not path.exists():
        return
    run = _load(path, mmap=True)[_RUN]
    if not isinstance(run, dict) or any(run.get(name) != value for name, value in known.items()):
        here = {name: run.get(name, "not there") for name in known} if isinstance(run, dict) else run
        raise _of_another_run(path, here, known)


def forget_other(path: Path, run: RunIdentity) -> None:
    """Remove a snapshot that `read_snapshot` would not give to `run`; its own leads to the same as a new start."""
    if not path.exists():
        return
    try:
        of_run = _load(path, mmap=True)[_RUN] == dict(run)
    except InputFileError:
        of_run = False
    if not of_run:
        path.unlink()


def weights_digest(network: nn.Module) -> str:
    """SHA-256 of all of a network's parameters and buffers, in hex."""
    sha = hashlib.sha256()
    for value in network.state_dict().values():
        sha.update(value.detach().contiguous().numpy().tobytes())
    return sha.hexdigest()


def array_digest(array: NDArray[Any]) -> str:
    """CRC-32 of an array's values, in hex: tells data sets apart, and proves nothing."""
    crc, rows = 0, max(1, _PIECE_BYTES * len(array) // max(1, array.nbytes))
    for start in range(0, len(array), rows):  # frames may be mapped from a file that is larger than the memory
        crc = zlib.crc32(np.ascontiguousarray(array[start : start + rows]).tobytes(), crc)
    return f"{crc:08x}"


def _load(path: Path, *, mmap: bool = False) -> dict[str, Any]:
    try:
        saved: dict[str, Any] = torch.load(path, weights_only=True, mmap=mmap)
        saved[_RUN]
    except Exception as error:  # torch raises a dozen kinds for a damaged file
        raise InputFileError(f"{path}: not a snapshot of ours, or damaged; remove it to start again") from error
    return saved


def _of_another_run(path: Path, before: object, now: RunIdentity) -> InputFileError:
    return InputFileError(
        f"{path}: snapshot of another run: {_unlike(before, now)}. Give the same again, or remove it to start anew"
    )


def _unlike(before: object, now: RunIdentity) -> str:
    """What differs, each with both values."""
    if not isinstance(before, dict):
        return "it was left by an older version"
    names = [name for name in dict.fromkeys((*now, *before)) if before.get(name) != now.get(name)]
    return ", ".join(
        f"{name} was {before.get(name, 'not there')} and is {now.get(name, 'not there')}" for name in names
    )
