"""Give the large constants of several graphs names and one place outside of them.

Graphs of one bundle share most of their weights: a step and the prediction beside it, one frame and sixty-four. Equal
constants are one entry of `weights.bin`, under one name, whichever graph they come from.
"""

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from ecotta_rt.bundle import place_weights
from ecotta_rt.exporter.builder import constant_of

__all__ = ["FrozenWeights", "digest_of"]

_SMALLEST = 256
"""Numbers below which a constant stays in its graph: its entry in the list would be longer than itself."""

_LOCATION = "weights.bin"


class FrozenWeights:
    """Collects large constants, then points the graphs at them.

    Args:
        names: `digest_of` a known weight -> the name its owner gave it; others are named after their digest.

    Attributes:
        arrays: float32 arrays by name, in the order of `weights.bin`.
    """

    def __init__(self, names: Mapping[bytes, str]) -> None:
        self.arrays: dict[str, NDArray[np.float32]] = {}
        self._names = names

    def collect(self, model: ir.Model) -> None:
        """Rename the large constants of `model` and keep their contents."""
        known: dict[str, ir.Value] = {}
        for graph, value in _constants(model):
            array = constant_of(value)
            if array is None or array.dtype != np.float32 or array.size < _SMALLEST:
                continue
            digest = digest_of(array)
            name = self._names.get(digest, f"weight.{digest.hex()[:16]}")
            if known.setdefault(name, value) is not value:  # passes may have made the same constant a second time
                ir.convenience.replace_all_uses_with(value, known[name])
                del graph.initializers[str(value.name)]
                continue
            # Renaming the value renames its key; the tensor has a name of its own.
            value.name = name
            value.const_value = ir.tensor(array, name=name)
            assert digest_of(self.arrays.setdefault(name, array)) == digest, f"two weights are called {name}"

    def move_out(self, model: ir.Model) -> bytes:
        """The model as an ONNX file whose collected constants are references into `weights.bin`.

        Call it when all models have been collected: only then is every place known.
        """
        places = place_weights({name: array.shape for name, array in self.arrays.items()})
        entries = {entry.name: entry for entry in places}
        for _, value in _constants(model):
            entry = entries.get(str(value.name))
            if entry is not None:
                value.const_value = ir.ExternalTensor(
                    _LOCATION,
                    entry.offset,
                    entry.bytes,
                    ir.DataType.FLOAT,
                    shape=ir.Shape(list(entry.shape)),
                    name=entry.name,
                )
        content: bytes = ir.to_proto(model).SerializeToString()
        return content


def _constants(model: ir.Model) -> list[tuple[ir.Graph, ir.Value]]:
    """Those of nested graphs too, behind the outer ones, each with the graph that it belongs to."""
    return [(graph, value) for graph in model.graphs() for value in graph.initializers.values()]


def digest_of(array: NDArray[Any]) -> bytes:
    """sha256 of shape and contents."""
    return hashlib.sha256(f"{array.shape}".encode() + np.ascontiguousarray(array).tobytes()).digest()
