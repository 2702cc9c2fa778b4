"""How a state's named arrays lie in the three flat vectors that a graph takes and gives."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from ecotta_rt.errors import InputFileError, UsageError
from ecotta_rt.files.fields import Limit, OneOf, Since, Without
from ecotta_rt.files.onnx_graph import ELEMENT_TYPES
from ecotta_rt.state import AdaptState

__all__ = ["ArrayShape", "Shape", "StateLayout", "find_twice"]

_FLOAT = np.dtype("<f4")

_MAX_ARRAY_BYTES = 1 << 30

Floats = NDArray[np.float32]


def find_twice(entries: Sequence[Any], key: str = "name") -> str | None:
    """Which name is given twice, in words; None where none is."""
    seen: set[str] = set()
    for name in (getattr(entry, key) for entry in entries):
        if name in seen:
            return f"the name {name!r} is given twice"
        seen.add(name)
    return None


def _size(shape: tuple[int, ...]) -> str | None:
    if math.prod(shape) * _FLOAT.itemsize <= _MAX_ARRAY_BYTES:
        return None
    return f"{list(shape)} is more than {_MAX_ARRAY_BYTES} bytes, the most there is"


Shape = Annotated[tuple[Annotated[int, Limit(0, _MAX_ARRAY_BYTES)], ...], Limit(most=8), _size]
"""Dimensions of an array."""


@dataclass(frozen=True)
class ArrayShape:
    """Name, shape and number format of an array; in a tuple, its place gives its offset in a flat vector.

    Attributes:
        name: What it is called.
        shape: Its dimensions; `()` for a single number.
        dtype: numpy's word for the number format. Weights and states are float32 throughout.
    """

    name: Annotated[str, Limit(most=200)]
    shape: Shape
    dtype: Annotated[str, OneOf(tuple(ELEMENT_TYPES.values()))] = "float32"

    @property
    def count(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape)


_Arrays = Annotated[tuple[Annotated[ArrayShape, Without("dtype")], ...], Limit(most=1 << 16), find_twice]


@dataclass(frozen=True)
class StateLayout:
    """The order in which a state's arrays lie one behind the other.

    Attributes:
        parameters: What learns; momentum has the same names, shapes and order.
        statistics: `NORM.mean` and `NORM.variance` of every norm that is not held.
        held: The same of those that are: in the state's file, and in no vector.
    """

    parameters: _Arrays
    statistics: _Arrays
    held: Annotated[_Arrays, Since(5)] = ()

    @classmethod
    def of(cls, state: AdaptState, held_norms: Collection[str] = ()) -> "StateLayout":
        """The layout of a state in the order it names its arrays.

        Args:
            state: Any of the network.
            held_norms: Names of norms whose statistics never move.
        """

        def shapes(section: Mapping[str, Floats]) -> tuple[ArrayShape, ...]:
            return tuple(ArrayShape(name, array.shape) for name, array in section.items())

        statistics = shapes(state.statistics)
        held = {f"{norm}.{moment}" for norm in held_norms for moment in ("mean", "variance")}
        return cls(
            shapes(state.parameters),
            tuple(array for array in statistics if array.name not in held),
            tuple(array for array in statistics if array.name in held),
        )

    @property
    def parameter_count(self) -> int:
        """P, the float32 numbers of all parameters."""
        return sum(array.count for array in self.parameters)

    @property
    def statistic_count(self) -> int:
        """S, the float32 numbers of all statistics."""
        return sum(array.count for array in self.statistics)

    def pack(self, state: AdaptState) -> tuple[Floats, Floats, Floats]:
        """Lay a state's arrays one behind the other.

        Returns:
            parameters `[P]`, momentum `[P]`, statistics `[S]`: float32 copies.

        Raises:
            InputFileError: The state has other arrays than this layout, or other shapes.
        """
        return (
            _flat("parameters", self.parameters, state.parameters),
            _flat("momentum", self.parameters, state.momentum),
            _flat("statistics", (*self.statistics, *self.held), state.statistics)[: self.statistic_count],
        )

    def held_of(self, state: AdaptState) -> dict[str, Floats]:
        """The arrays of norms that are held, by name; raises as `pack` does."""
        arrays = {array.name: state.statistics[array.name] for array in self.held if array.name in state.statistics}
        _flat("statistics", self.held, arrays)
        return arrays

    def unpack(
        self,
        parameters: Floats,
        momentum: Floats,
        statistics: Floats,
        network_digest: str,
        metadata: Mapping[str, str] | None = None,
        held: Mapping[str, Floats] = MappingProxyType({}),
    ) -> AdaptState:
        """The state that the vectors hold: copies, since a state is a value and vectors are used again.

        Args:
            parameters: float32 `[P]`.
            momentum: float32 `[P]`.
            statistics: float32 `[S]`.
            network_digest: Digest of the frozen network that the state belongs to.
            metadata: How the state came about.
            held: As `held_of` gives them.

        Raises:
            UsageError: A vector of another length or number format.
        """
        return AdaptState(
            parameters=_named("parameters", self.parameters, parameters),
            momentum=_named("momentum", self.parameters, momentum),
            statistics={**_named("statistics", self.statistics, statistics), **held},
            network_digest=network_digest,
            metadata=dict(metadata or {}),
        )


def _flat(section: str, layout: tuple[ArrayShape, ...], arrays: Mapping[str, Floats]) -> Floats:
    known = {array.name for array in layout}
    for name in (*known - arrays.keys(), *arrays.keys() - known):
        whose = "the state lacks it" if name in known else "the layout does not know it"
        raise InputFileError(
            f"state does not fit the layout: {section}/{name}: {whose}; was it made for another network?"
        )
    flat = np.empty(sum(array.count for array in layout), np.float32)
    start = 0
    for entry in layout:
        array = arrays[entry.name]
        if array.shape != entry.shape or array.dtype != _FLOAT:
            found = f"{array.dtype} {list(array.shape)}"
            expected = f"float32 {list(entry.shape)}"
            raise InputFileError(
                f"state does not fit the layout: {section}/{entry.name} is {found}, expected {expected}"
            )
        flat[start : start + entry.count] = array.ravel()
        start += entry.count
    return flat


def _named(section: str, layout: tuple[ArrayShape, ...], flat: Floats) -> dict[str, Floats]:
    count = sum(array.count for array in layout)
    if flat.shape != (count,) or flat.dtype != _FLOAT:
        raise UsageError(f"{section} is {flat.dtype} {list(flat.shape)}, expected float32 [{count}]")
    named, start = {}, 0
    for entry in layout:
        named[entry.name] = flat[start : start + entry.count].reshape(entry.shape).copy()
        start += entry.count
    return named
