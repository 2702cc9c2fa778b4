"""A state's parameters and statistics as one vector, checked as `AdaptState.load` checks them.

The states of a fleet are alike but for their numbers. The first is read and checked array by array; of one that is
described in the same words only the numbers are new, and these are checked at one go. That, and not the arithmetic,
decides how long a thousand take.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecotta_rt.errors import InputFileError
from ecotta_rt.fleet.sources import StateSource
from ecotta_rt.state import AdaptState, FramesBehind, read_header

__all__ = ["Arrangement", "Digests", "FlatState", "FlatStates"]

Floats = NDArray[np.float32]
Places = NDArray[np.intp]
Digests = NDArray[np.uint64]

_FLOAT_BYTES = 4
_MOST_DESCRIPTIONS = 8
_MEAN, _VARIANCE = ".mean", ".variance"


@dataclass(frozen=True)
class Arrangement:
    """Which arrays stand where in the vector of a state: those of `parameters`, then those of `statistics`.

    Attributes:
        parameters: Name and shape of each, in order.
        statistics: The same.
    """

    parameters: tuple[tuple[str, tuple[int, ...]], ...]
    statistics: tuple[tuple[str, tuple[int, ...]], ...]
    parameter_count: int = field(init=False, compare=False)
    size: int = field(init=False, compare=False)
    statistic_bytes: tuple[tuple[int, int], ...] = field(init=False, compare=False, repr=False)
    means: Places = field(init=False, compare=False, repr=False)
    variances: Places = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        """Find the means and the variances; `ValueError` where one is without the other."""
        count = sum(_length(shape) for _, shape in self.parameters)
        spans, start = {}, count
        for name, shape in self.statistics:
            spans[name] = (start, start := start + _length(shape))
        norms = sorted(name.removesuffix(_MEAN) for name in spans if name.endswith(_MEAN))
        if {*spans} != {norm + kind for norm in norms for kind in (_MEAN, _VARIANCE)}:
            raise ValueError("a norm has a mean without a variance, or a variance without a mean")
        if any(np.ptp(spans[norm + _MEAN]) != np.ptp(spans[norm + _VARIANCE]) for norm in norms):
            raise ValueError("a norm has not as many means as variances")
        for attribute, kind in (("means", _MEAN), ("variances", _VARIANCE)):
            found = [np.arange(*spans[norm + kind]) for norm in norms]
            object.__setattr__(self, attribute, np.concatenate(found) if found else np.zeros(0, np.intp))
        object.__setattr__(self, "parameter_count", count)
        object.__setattr__(self, "statistic_bytes", tuple((4 * a, 4 * b) for a, b in spans.values()))
        object.__setattr__(self, "size", start)

    def state(self, vector: Floats, network_digest: str, metadata: Mapping[str, str]) -> AdaptState:
        """The state of a vector `[size]`, without momentum and memory of its stream."""
        parameters = _arrays(self.parameters, vector[: self.parameter_count])
        return AdaptState(
            parameters=parameters,
            momentum={name: np.zeros_like(array) for name, array in parameters.items()},
            statistics=_arrays(self.statistics, vector[self.parameter_count :]),
            network_digest=network_digest,
            metadata=metadata,
        )


@dataclass(frozen=True)
class FlatState:
    """One state, its numbers left where they are.

    Attributes:
        source: Where they are.
        arrangement: Of its vector.
        digest: SHA-256 of the vector.
        network_digest: The network's.
        metadata: As `AdaptState.metadata`.
        magnitudes: Root of the mean square of its parameters, and of its statistics.
        statistic_digests: uint64, of each array of the statistics the begin of its SHA-256.
        start: Of its vector in the source, in bytes.
    """

    source: StateSource
    arrangement: Arrangement
    digest: bytes
    network_digest: str
    metadata: Mapping[str, str]
    magnitudes: tuple[float, float]
    statistic_digests: Digests
    start: int

    @property
    def name(self) -> str:
        """The source's."""
        return self.source.name

    @property
    def behind(self) -> FramesBehind:
        """The frames that have made it what it is."""
        return FramesBehind.of(self.metadata)

    def vector(self, first: int = 0, last: int | None = None) -> Floats:
        """float32, its numbers from `first` to `last`; all of them unless told."""
        last = self.arrangement.size if last is None else last
        content = self.source.part(self.start + _FLOAT_BYTES * first, self.start + _FLOAT_BYTES * last)
        return np.frombuffer(content, "<f4")


@dataclass(frozen=True)
class _Description:
    """What the header of a file says, but for metadata, and what follows from it."""

    entries: Mapping[str, Any]
    format: str
    size: int
    arrangement: Arrangement
    start: int


class FlatStates:
    """Reads states; remembers how those before were described."""

    def __init__(self) -> None:
        self._known: list[_Description] = []

    def read(self, source: StateSource) -> FlatState:
        """Read and check one; raises `InputFileError` as `AdaptState.load` does."""
        content = source.content()
        entries, metadata, begin = read_header(content, source.name)
        known = next((one for one in self._known if _described_so(one, entries, metadata, len(content) - begin)), None)
        if known is None:
            known = self._described(source.name, content, entries, metadata, begin)
        start, arrangement = begin + known.start, known.arrangement
        # The rest of the file was checked with the first of its kind; of this one all numbers, momentum too.
        if not np.isfinite(np.frombuffer(content, "<f4", offset=begin)).all():
            AdaptState.from_bytes(content, source.name)  # it names the array
            raise InputFileError(f"{source.name}: holds NaN or infinity; this state cannot be used")
        vector = np.frombuffer(content, "<f4", arrangement.size, start)
        if (vector[arrangement.variances] < 0).any():
            raise InputFileError(f"{source.name}: holds a negative variance; this state cannot be used")
        rest = {name: text for name, text in metadata.items() if name not in ("format", "network_digest")}
        # Not `files.digest`: where states are merged there is room for OpenSSL, which hashes five times as fast.
        digest = hashlib.sha256(memoryview(content)[start : start + vector.nbytes]).digest()
        parts = vector[: arrangement.parameter_count], vector[arrangement.parameter_count :]
        magnitudes = (_magnitude(parts[0]), _magnitude(parts[1]))
        array = memoryview(content)[start:]
        begins = [hashlib.sha256(array[a:b]).digest()[:8] for a, b in arrangement.statistic_bytes]
        digests = np.frombuffer(b"".join(begins), np.uint64)
        return FlatState(source, arrangement, digest, metadata["network_digest"], rest, magnitudes, digests, start)

    def _described(
        self, name: str, content: bytes, entries: Mapping[str, Any], metadata: Mapping[str, str], begin: int
    ) -> _Description:
        """Check a state array by array, and remember how it was described."""
        AdaptState.from_bytes(content, name)
        sections = {
            section: sorted(
                (entry["data_offsets"][0], full_name.partition("/")[2], tuple(entry["shape"]))
                for full_name, entry in entries.items()
                if full_name.startswith(f"{section}/")
            )
            for section in ("parameters", "statistics")
        }
        placed = [*sections["parameters"], *sections["statistics"]]
        start = stop = placed[0][0] if placed else 0
        for offset, array, shape in placed:
            if offset != stop:
                raise InputFileError(f"{name}: {array} stands where ecotta_rt does not write it; save the state anew")
            stop += _FLOAT_BYTES * _length(shape)
        shapes = ([(array, shape) for _, array, shape in sections[section]] for section in sections)
        try:
            arrangement = Arrangement(*map(tuple, shapes))
        except ValueError as error:
            raise InputFileError(f"{name}: {error}; this state cannot be used") from error
        if not arrangement.size:
            raise InputFileError(f"{name}: there is nothing in it: it stands for the source")
        found = _Description(entries, metadata["format"], len(content) - begin, arrangement, start)
        self._known = [*self._known[-_MOST_DESCRIPTIONS + 1 :], found]
        return found


def _described_so(known: _Description, entries: Mapping[str, Any], metadata: Mapping[str, str], size: int) -> bool:
    return known.size == size and known.entries == entries and known.format == metadata["format"]


def _arrays(named: tuple[tuple[str, tuple[int, ...]], ...], vector: Floats) -> dict[str, Floats]:
    ends = np.cumsum([_length(shape) for _, shape in named])
    parts = np.split(vector, ends[:-1]) if named else []
    return {name: part.reshape(shape) for (name, shape), part in zip(named, parts, strict=True)}


def _length(shape: tuple[int, ...]) -> int:
    return int(np.prod(shape, dtype=np.int64))


def _magnitude(vector: Floats) -> float:
    with np.errstate(over="ignore"):  # infinite where it is too large to be told
        return float(np.sqrt(np.dot(vector, vector) / max(1, vector.size)))
