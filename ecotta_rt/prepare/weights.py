"""Named tensors to and from files, read suspiciously and written whole.

    .safetensors              tensors and a flat metadata mapping of strings
    .pt .pth .th and others   what torch.save wrote, read with `weights_only=True`: no code in the file is run

Which of the two a file is decides its content, not its name. Not here: which tensor belongs where (see
`ecotta_rt.prepare.matching`).
"""

import os
import stat
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from ecotta_rt.errors import InputFileError, UsageError
from ecotta_rt.files.atomic import write_atomic
from ecotta_rt.files.sorted_metadata import with_sorted_metadata
from ecotta_rt.method.cut.one_line import one_line

__all__ = ["has_safetensors", "read_safetensors", "read_tensors", "stored_tensors", "write_safetensors"]

_LARGEST_FILE_BYTES = 2 * 1024**3
"""Ten times the largest network here: a limit for mistakes and bombs, not for networks."""

_WRAPPERS = (
    *("state_dict", "model_state", "model_state_dict", "model", "net", "network", "module", "weights", "params"),
    *("ema_state_dict", "state_dict_ema", "model_ema", "ema", "params_ema", "shadow"),
)
"""Where training scripts keep the weights inside what they save, in the order of search: averaged ones last."""

_DEEPEST = 4
"""How often one may stand in another: `ema` may have a `state_dict`, and so on."""


def read_safetensors(path: str | os.PathLike[str]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a .safetensors file as stored, and its metadata.

    Raises:
        InputFileError: No such file, larger than 2 GiB, truncated, or no safetensors file.
    """
    path = _regular_file(path)
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})
    except (SafetensorError, OSError, RuntimeError, ValueError) as error:
        kind = "safetensors file" if path.suffix == ".safetensors" else "file of torch.save or safetensors"
        raise InputFileError(f"{path}: not a whole {kind}: {one_line(error)}. Copy or download it again") from error


def read_tensors(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """The tensors of a checkpoint of any kind by name, as stored.

    Args:
        path: A .safetensors file, or a file of torch.save that holds a state dict, bare or under one of the keys
            that training scripts use, such as `state_dict`, `model_state_dict`, `model`, `ema`, in one another too.
            Other entries are left out.

    Raises:
        InputFileError: As for `read_safetensors`, or a file that holds more than tensors and plain values, or none.
    """
    path = _regular_file(path)
    if not _written_by_torch(path):
        return read_safetensors(path)[0]
    content = _unpickle_weights(path)
    for _ in range(_DEEPEST):
        inside = isinstance(content, Mapping) and [key for key in _WRAPPERS if isinstance(content.get(key), Mapping)]
        if not inside:
            break
        content = content[inside[0]]
    if not isinstance(content, Mapping):
        raise InputFileError(
            f"{path}: holds {type(content).__name__}, not a state dict. Save `network.state_dict()` instead"
        )
    tensors = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    if not tensors:
        raise InputFileError(
            f"{path}: no tensors in it, only the keys {sorted(map(str, content))[:8]}; "
            f"weights are looked for at the top and under {', '.join(_WRAPPERS)}"
        )
    return tensors


def has_safetensors(path: str | os.PathLike[str]) -> bool:
    """Whether the file is read as safetensors, by its content.

    Raises:
        InputFileError: No such file, or larger than 2 GiB.
    """
    return not _written_by_torch(_regular_file(path))


def stored_tensors(network: nn.Module) -> dict[str, Tensor]:
    """What is stored of a network: weights in fp16 where that holds them, statistics and vectors in fp32.

    Whole numbers (positions, tables of places) are stored as they are.

    Raises:
        UsageError: NaN or infinite values.
    """
    state = network.state_dict()
    bad = [key for key, value in state.items() if not bool(torch.isfinite(value).all())]
    if bad:
        raise UsageError(f"cannot save a network with NaN or infinite values: {', '.join(bad[:6])}")
    return {key: _stored(value) for key, value in state.items() if not key.endswith("num_batches_tracked")}


def write_safetensors(path: str | os.PathLike[str], tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a .safetensors file whole or not at all: the same bytes for the same content.

    Raises:
        TransferError: As `write_atomic`.
    """
    content = save({name: value.detach().contiguous() for name, value in tensors.items()}, dict(metadata))
    write_atomic(path, with_sorted_metadata(content) if metadata else content)


def _regular_file(path: str | os.PathLike[str]) -> Path:
    path = Path(path)
    try:
        status = path.stat()
    except (OSError, ValueError) as error:  # ValueError: a name with a zero byte
        raise InputFileError(f"{path}: {getattr(error, 'strerror', None) or error}") from error
    if not stat.S_ISREG(status.st_mode):
        raise InputFileError(f"{path}: not a file")
    if status.st_size > _LARGEST_FILE_BYTES:
        raise InputFileError(f"{path}: {status.st_size} bytes, more than the {_LARGEST_FILE_BYTES} a network may have")
    return path


def _written_by_torch(path: Path) -> bool:
    try:
        with open(path, "rb") as file:
            start = file.read(8)
    except OSError as error:
        raise InputFileError(f"{path}: {error.strerror or error}") from error
    # A safetensors file opens with the length of its header: as a number these two starts would be far too long.
    return start[:4] == b"PK\x03\x04" or (start[:1] == b"\x80" and start[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"))


def _unpickle_weights(path: Path) -> Any:
    _refuse_bombs(path)
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a hostile file makes the reader fail in any way it likes
        if "weights_only" in str(error) or "Unsupported global" in str(error):
            raise InputFileError(
                f"{path}: holds more than tensors and plain values, and loading it would run code from it; refused. "
                "On a machine where you trust it, load it once and save only `network.state_dict()`. "
                f"The reader says: {one_line(error, 'global')}"
            ) from error
        raise InputFileError(f"{path}: not a whole checkpoint of torch.save: {one_line(error)}") from error


def _refuse_bombs(path: Path) -> None:
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        if any("/code/" in entry.filename for entry in archive.infolist()):
            raise InputFileError(
                f"{path}: a TorchScript archive, which holds code beside its weights; where you trust it, save them "
                "alone: torch.save(torch.jit.load(FILE).state_dict(), 'weights.pt')"
            )
        unpacked = sum(entry.file_size for entry in archive.infolist())
    if unpacked > _LARGEST_FILE_BYTES:
        raise InputFileError(
            f"{path}: unpacks to {unpacked} bytes, more than the {_LARGEST_FILE_BYTES} a network may have"
        )


def _stored(value: Tensor) -> Tensor:
    if not value.is_floating_point():
        return value
    half = value.half()
    return half if value.ndim > 1 and bool(torch.isfinite(half).all()) else value.float()
