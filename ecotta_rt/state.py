"""The adapted state as a value: save it, restore it, compare it.

A state is all that changes while a network adapts: the meta groups' parameters, their momentum, the statistics of
every norm, and what a run remembers of its stream. It is a few hundred kilobytes, and it fits only the frozen network
it came from.
"""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecotta_rt.errors import InputFileError, UsageError
from ecotta_rt.files.atomic import write_atomic
from ecotta_rt.files.kinds import open_regular
from ecotta_rt.files.names import readable_name
from ecotta_rt.files.sorted_metadata import with_sorted_metadata
from ecotta_rt.files.stored_zip import ARCHIVE_MARK

__all__ = [
    "MAX_HEADER_BYTES",
    "MERGED",
    "MOST_BYTES",
    "SECTIONS",
    "AdaptState",
    "FramesBehind",
    "read_header",
    "state_content",
]

Array = NDArray[np.float32]
Arrays = Mapping[str, Array]

_FORMAT = "ecotta-state-1"
_FORMAT_WITH_ADAPTATION = "ecotta-state-2"
"""That of a state with the section `adaptation`; one without it is written as before, for readers of before."""

SECTIONS = ("parameters", "momentum", "statistics")
"""Those that graphs read, in the order in which they are written; `adaptation` comes after them."""

_ALL = (*SECTIONS, "adaptation")
_READ_IN = {_FORMAT: SECTIONS, _FORMAT_WITH_ADAPTATION: _ALL}

MOST_BYTES = 1 << 30
"""Of the file of a state."""

_FOLLOWED, _LEARNED = "frames.followed", "frames.learned"
_MAX_AXES = 8
_MOST_METADATA = 1 << 18
"""Characters; ours have 2,000."""

MERGED = "merged."
"""Names in the metadata of a merged state begin so: how many states, by which rule."""

_LARGE_BYTES = 16 << 20
_LONGEST_COUNT = 20

MAX_HEADER_BYTES = 4 << 20
"""Of the JSON at the beginning of a state's file; that of WRN-40-2 has 20 KB."""


@dataclass(frozen=True)
class FramesBehind:
    """How many frames of its stream have made a state what it is; None: nobody has counted.

    Attributes:
        followed: Statistics and filter have followed so many.
        learned: So many had answers certain enough in a step that moved the parameters.
    """

    followed: int | None = None
    learned: int | None = None

    @classmethod
    def of(cls, metadata: Mapping[str, str]) -> "FramesBehind":
        """What a state's metadata say."""
        return cls(*(_count(metadata.get(name, "")) for name in (_FOLLOWED, _LEARNED)))

    def plus(self, followed: int, learned: int) -> "FramesBehind":
        """With so many more; a count that nobody has begun begins here."""
        return FramesBehind((self.followed or 0) + followed, (self.learned or 0) + learned)

    @classmethod
    def begun_from(cls, metadata: Mapping[str, str]) -> "FramesBehind":
        """What a run that goes on from a state has behind it: of a merged one none of the frames are its own.

        Did it count them, each board of a fleet that merges again and again would claim the frames of all.
        """
        return cls(0, 0) if any(name.startswith(MERGED) for name in metadata) else cls.of(metadata)

    def metadata(self) -> dict[str, str]:
        """As `AdaptState.metadata` has it."""
        counts = {_FOLLOWED: self.followed, _LEARNED: self.learned}
        return {name: str(count) for name, count in counts.items() if count is not None}


@dataclass(frozen=True)
class AdaptState:
    """Named float32 arrays in sections.

    Attributes:
        parameters: What learns, by name (`groups.0.conv.weight`).
        momentum: Same names and shapes as `parameters`.
        statistics: `NORM.mean` and `NORM.variance` (biased), each `[C]`, for every norm of the network.
        network_digest: Digest of the frozen network that this state belongs to.
        metadata: Free text by name: how the state came about.
        adaptation: What a run remembers of its stream beside the statistics: see `ecotta_rt.adapt`. None of it in the
            state that a bundle begins with.
    """

    parameters: Arrays
    momentum: Arrays
    statistics: Arrays
    network_digest: str
    metadata: Mapping[str, str] = field(default_factory=dict)
    adaptation: Arrays = field(default_factory=dict)

    @property
    def behind(self) -> FramesBehind:
        """The frames that have made it what it is, as its metadata say."""
        return FramesBehind.of(self.metadata)

    def save(self, path: str | Path) -> None:
        """Write to `path` as safetensors, whole or not at all.

        Raises:
            UsageError: NaN or infinity in it: `load` would refuse it, and the last good file is worth more.
            TransferError: The disk is full or the folder cannot be written.
        """
        try:
            content = self.to_bytes()
        except UsageError as error:
            raise UsageError(f"{path} was not written: {error}") from error
        write_atomic(path, content)

    @property
    def most_file_bytes(self) -> int:
        """No state of these arrays has a longer file, whatever its metadata."""
        return MAX_HEADER_BYTES + sum(array.nbytes for _, _, array in self._each())

    @classmethod
    def load(cls, path: str | Path, *, most_bytes: int = MOST_BYTES) -> "AdaptState":
        """Read what `save` wrote.

        Args:
            path: The file.
            most_bytes: A longer file is refused before it is read: see `most_file_bytes`.

        Raises:
            InputFileError: No such file, truncated, mostly holes, not a state, not float32, not finite, a negative
                variance, or longer than 1 GiB or `most_bytes`.
        """
        return cls.from_bytes(state_content(path, most_bytes), str(path))

    def to_bytes(self) -> bytes:
        """The content of the file that `save` writes: the same for equal states.

        Raises:
            UsageError: NaN or infinity in it.
        """
        from safetensors.numpy import save

        tensors = {f"{section}/{name}": np.ascontiguousarray(a) for section, name, a in self._each()}
        bad = [name for name, array in tensors.items() if not np.isfinite(array).all()]
        if bad:
            raise UsageError(f"{bad[0]} holds NaN or infinity, the adaptation has diverged")
        metadata = {key: readable_name(value) for key, value in self.metadata.items()}
        written_as = _FORMAT_WITH_ADAPTATION if self.adaptation else _FORMAT
        header = {**metadata, "format": written_as, "network_digest": self.network_digest}
        return with_sorted_metadata(save(tensors, header))

    @classmethod
    def from_bytes(cls, content: bytes, origin: str) -> "AdaptState":
        """The state in the content of a file; raises as `load` does.

        Args:
            content: All of it.
            origin: The file's name, for messages.
        """
        from safetensors import SafetensorError, deserialize

        if len(content) > MOST_BYTES:
            raise InputFileError(f"{origin}: {len(content)} bytes, more than the {MOST_BYTES} a state may have")
        described, header, _ = read_header(content, origin)
        sections = _READ_IN[header.pop("format")]
        try:
            entries = deserialize(content)  # type: ignore[no-untyped-call]
        except SafetensorError as error:
            raise InputFileError(f"{origin}: not a safetensors file, or a truncated one ({error})") from error
        # `deserialize` gives another order every time.
        entries.sort(key=lambda entry: (described[entry[0]]["data_offsets"], entry[0]))
        arrays = _arrays(origin, entries, sections)
        return cls(**arrays, network_digest=header.pop("network_digest"), metadata=header)

    def compare(self, other: "AdaptState") -> dict[str, float]:
        """Largest difference by array name, relative to the larger magnitude; `inf` where one is missing."""
        mine, theirs = ({f"{s}/{n}": a for s, n, a in state._each()} for state in (self, other))
        return {name: _relative(mine.get(name), theirs.get(name)) for name in sorted({*mine, *theirs})}

    def _each(self) -> list[tuple[str, str, NDArray[np.float32]]]:
        return [(section, name, a) for section in _ALL for name, a in getattr(self, section).items()]


def state_content(path: str | Path, most_bytes: int = MOST_BYTES) -> bytes:
    """All bytes of a state's file, for `AdaptState.from_bytes`.

    Args:
        path: The file.
        most_bytes: A longer file is refused before it is read.

    Raises:
        InputFileError: It cannot be read, is mostly holes or too long.
    """
    try:
        with open_regular(path) as file:
            status = os.fstat(file.fileno())
            size = status.st_size
            if size > (most := min(most_bytes, MOST_BYTES)):
                raise InputFileError(
                    f"{path}: {size} bytes, more than the {most} it may have; is it of another network?"
                )
            # A file that was made long and never written reads as zeros, and takes all of them in memory.
            there = getattr(status, "st_blocks", size) * 512
            if size > _LARGE_BYTES and 4 * there < size:
                raise InputFileError(f"{path}: {size} bytes, of which only {there} were ever written; not a state")
            return file.read(size)
    except OSError as error:
        raise InputFileError(f"{path}: cannot be read ({error.strerror or error})") from error


def read_header(content: bytes, origin: str) -> tuple[dict[str, Any], dict[str, str], int]:
    """What the JSON at the beginning of a state's file says; the library hands out none of it.

    Args:
        content: Of the file.
        origin: Its name, for messages.

    Returns:
        Type, shape and place of each array by name, the metadata with `format` and `network_digest`, and where the
        data begin.

    Raises:
        InputFileError: It is none of a state.
    """
    if content.startswith(ARCHIVE_MARK):
        raise InputFileError(f"{origin}: not a safetensors file but a zip, such as a bundle, and no state")
    start = 8 + (length := int.from_bytes(content[:8], "little"))
    if length > MAX_HEADER_BYTES:
        raise InputFileError(
            f"{origin}: not a safetensors file, or one with a header of {length} bytes; a state's has at most "
            f"{MAX_HEADER_BYTES}"
        )
    try:
        described = json.loads(content[8:start].decode("utf-8"), object_pairs_hook=_without_twins)
    except (ValueError, RecursionError) as error:
        raise InputFileError(f"{origin}: not a safetensors file, or a truncated one ({error!s:.200})") from error
    metadata = described.pop("__metadata__", None) if isinstance(described, dict) else None
    metadata = metadata if isinstance(metadata, dict) else {}
    if metadata.get("format") not in _READ_IN or "network_digest" not in metadata:
        raise InputFileError(
            f"{origin}: no {' or '.join(_READ_IN)} file; adapted states are written by ecotta_rt itself"
        )
    if (
        any(not isinstance(text, str) for text in metadata.values())
        or sum(map(len, metadata.values())) > _MOST_METADATA
    ):
        raise InputFileError(f"{origin}: its metadata are no texts, or of more than {_MOST_METADATA} characters")
    return described, metadata, start


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """JSON readers disagree which of two equal names counts."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name stands in it twice")
    return found


def _arrays(
    origin: str, entries: Iterable[tuple[str, Mapping[str, Any]]], sections: Sequence[str]
) -> dict[str, dict[str, Array]]:
    found: dict[str, dict[str, Array]] = {section: {} for section in sections}
    for full_name, entry in entries:
        section, _, name = full_name.partition("/")
        if section not in found or not name:
            raise InputFileError(f"{origin}: unknown entry {full_name!r}; expected {', '.join(sections)}")
        if entry["dtype"] != "F32":
            raise InputFileError(f"{origin}: {full_name} is {entry['dtype']}, not float32; expected float32 throughout")
        if len(entry["shape"]) > _MAX_AXES:
            raise InputFileError(f"{origin}: {full_name} has {len(entry['shape'])} axes, more than {_MAX_AXES}")
        array = np.frombuffer(entry["data"], "<f4").reshape(entry["shape"])
        if not np.isfinite(array).all():
            raise InputFileError(f"{origin}: {full_name} holds NaN or infinity; this state cannot be used")
        if section == "statistics" and name.endswith(".variance") and (array < 0).any():
            raise InputFileError(f"{origin}: {full_name} holds a negative variance; this state cannot be used")
        found[section][name] = array
    return found


def _count(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdecimal() and len(text) < _LONGEST_COUNT else None


def _relative(mine: NDArray[np.float32] | None, theirs: NDArray[np.float32] | None) -> float:
    if mine is None or theirs is None or mine.shape != theirs.shape:
        return float("inf")
    if mine.size == 0:
        return 0.0
    scale = max(float(np.abs(mine).max()), float(np.abs(theirs).max()))
    return float(np.abs(mine - theirs).max()) / scale if scale > 0 else 0.0
