"""The adapted state as a value: save it, restore it, compare it.

A state is all that changes while a network adapts: the meta groups' parameters, their momentum and the statistics of
every norm. It is a few hundred kilobytes, and it fits only the frozen network it came from.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ecotta_rt.errors import InputFileError, UsageError
from ecotta_rt.whole_file import write_whole

__all__ = ["AdaptState"]

Arrays = Mapping[str, NDArray[np.float32]]

_FORMAT = "ecotta-state-1"
_SECTIONS = ("parameters", "momentum", "statistics")
_MAX_BYTES = 1 << 30


@dataclass(frozen=True)
class AdaptState:
    """Named float32 arrays in three sections.

    Attributes:
        parameters: What learns, by name (`groups.0.conv.weight`).
        momentum: Same names and shapes as `parameters`.
        statistics: `NORM.mean` and `NORM.variance` (biased), each `[C]`, for every norm of the network.
        network_digest: Digest of the frozen network that this state belongs to.
        metadata: Free text by name: how the state came about.
    """

    parameters: Arrays
    momentum: Arrays
    statistics: Arrays
    network_digest: str
    metadata: Mapping[str, str] = field(default_factory=dict)

    def save(self, path: str | Path) -> None:
        """Write to `path` as safetensors, whole or not at all.

        Raises:
            UsageError: NaN or infinity in it: `load` would refuse it, and the last good file is worth more.
            TransferError: The disk is full or the folder cannot be written.
        """
        from safetensors.numpy import save

        tensors = {f"{section}/{name}": np.ascontiguousarray(a) for section, name, a in self._each()}
        bad = [name for name, array in tensors.items() if not np.isfinite(array).all()]
        if bad:
            raise UsageError(f"{path} was not written: {bad[0]} holds NaN or infinity, the adaptation has diverged")
        header = {**self.metadata, "format": _FORMAT, "network_digest": self.network_digest}
        write_whole(path, save(tensors, header))

    @classmethod
    def load(cls, path: str | Path) -> "AdaptState":
        """Read what `save` wrote.

        Raises:
            InputFileError: No such file, truncated, not a state, not float32, not finite, a negative variance, or more
                than 1 GiB.
        """
        from safetensors import SafetensorError, safe_open

        path = Path(path)
        try:
            size = path.stat().st_size
            if size > _MAX_BYTES:
                raise InputFileError(f"{path}: {size} bytes, more than the {_MAX_BYTES} a state may have")
            with safe_open(path, framework="numpy") as file:
                header = dict(file.metadata() or {})
                arrays = {name: file.get_tensor(name) for name in file.keys()}
        except OSError as error:
            raise InputFileError(f"{path}: cannot be read ({error.strerror or error})") from error
        except SafetensorError as error:
            raise InputFileError(f"{path}: not a safetensors file, or a truncated one ({error})") from error
        except (TypeError, AttributeError) as error:  # bfloat16 and the 8-bit floats, which numpy does not have
            raise InputFileError(f"{path}: holds a number format that is not float32 ({error})") from error
        if header.pop("format", None) != _FORMAT or "network_digest" not in header:
            raise InputFileError(f"{path}: no {_FORMAT} file; adapted states are written by ecotta_rt itself")
        return cls(**_sections(path, arrays), network_digest=header.pop("network_digest"), metadata=header)

    def compare(self, other: "AdaptState") -> dict[str, float]:
        """Largest difference by array name, relative to the larger magnitude; `inf` where one is missing."""
        mine, theirs = ({f"{s}/{n}": a for s, n, a in state._each()} for state in (self, other))
        return {name: _relative(mine.get(name), theirs.get(name)) for name in sorted({*mine, *theirs})}

    def _each(self) -> list[tuple[str, str, NDArray[np.float32]]]:
        return [(section, name, a) for section in _SECTIONS for name, a in getattr(self, section).items()]


def _sections(path: Path, arrays: Mapping[str, NDArray[np.float32]]) -> dict[str, dict[str, NDArray[np.float32]]]:
    found: dict[str, dict[str, NDArray[np.float32]]] = {section: {} for section in _SECTIONS}
    for full_name, array in arrays.items():
        section, _, name = full_name.partition("/")
        if section not in found or not name:
            raise InputFileError(f"{path}: unknown entry {full_name!r}; expected {', '.join(_SECTIONS)}")
        if array.dtype != np.float32:
            raise InputFileError(f"{path}: {full_name} is {array.dtype}, expected float32")
        if not np.isfinite(array).all():
            raise InputFileError(f"{path}: {full_name} holds NaN or infinity; this state cannot be used")
        if section == "statistics" and name.endswith(".variance") and (array < 0).any():
            raise InputFileError(f"{path}: {full_name} holds a negative variance; this state cannot be used")
        found[section][name] = array
    return found


def _relative(mine: NDArray[np.float32] | None, theirs: NDArray[np.float32] | None) -> float:
    if mine is None or theirs is None or mine.shape != theirs.shape:
        return float("inf")
    if mine.size == 0:
        return 0.0
    scale = max(float(np.abs(mine).max()), float(np.abs(theirs).max()))
    return float(np.abs(mine - theirs).max()) / scale if scale > 0 else 0.0
