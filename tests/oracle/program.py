"""An exported graph as plain values: operations in their order, and the size of every tensor.

    bytes of an ONNX file  ->  read_program()  ->  Program

Sizes are worked out here, node by node, by the rules that the onnx package has for each operator; what the exporter
noted beside its values is not read. A shape that is computed in the graph (from `Size`, constants and arithmetic) is
followed by computing it.

Part of `verify`, which see: it must not use what the planner or the exporter's own accounting use.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper, shape_inference
from onnx.reference import ReferenceEvaluator

from ecotta_rt.errors import InputFileError

__all__ = ["Operation", "Program", "Tensor", "read_program"]

_MOST_NUMBERS = 4096
"""Longer integer tensors are data, not shapes: they are not followed."""


@dataclass(frozen=True)
class Tensor:
    """What a name stands for."""

    shape: tuple[int, ...]
    dtype: str = "float32"

    @property
    def size_bytes(self) -> int:
        """Bytes of all elements."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize


@dataclass(frozen=True)
class Operation:
    """One node; an input or output that is left out is ""."""

    op_type: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    numbers: Mapping[str, tuple[int, ...]] = field(default_factory=dict)  # attributes: whole numbers, or lists of them
    branches: tuple["Program", ...] = ()  # nested graphs, of which one runs


@dataclass(frozen=True)
class Program:
    """A graph."""

    operations: tuple[Operation, ...]  # in the order in which they are written
    tensors: Mapping[str, Tensor]  # by name; for a nested graph also those around it
    results: tuple[str, ...]  # names of its outputs: whoever runs it has a place for them
    constants: frozenset[str] = frozenset()
    weights: frozenset[str] = frozenset()  # of the constants, those that lie in a file beside it


def read_program(content: bytes, origin: str) -> Program:
    """Read an ONNX file; tensors outside of it are not looked at."""
    model = onnx.load_from_string(content)
    return _Reader(model, origin).program(model.graph, {}, {})


class _Reader:
    """Walks through a model once; `types` and `known` are what is around the graph it is in."""

    def __init__(self, model: onnx.ModelProto, origin: str) -> None:
        self._origin = origin
        self._opsets = {entry.domain: entry.version for entry in model.opset_import}
        self._imports = list(model.opset_import)
        self._ir_version = model.ir_version

    def program(
        self, graph: onnx.GraphProto, types: Mapping[str, onnx.TypeProto], known: Mapping[str, NDArray[Any]]
    ) -> Program:
        types, known, weights = dict(types), dict(known), set()
        for value in graph.input:
            types[value.name] = value.type
        for tensor in graph.initializer:
            types[tensor.name] = onnx.helper.make_tensor_type_proto(tensor.data_type, list(tensor.dims))
            if tensor.data_location == onnx.TensorProto.EXTERNAL:
                weights.add(tensor.name)
            elif _is_short_integers(types[tensor.name]):
                known[tensor.name] = numpy_helper.to_array(tensor)
        operations = [self._operation(node, types, known) for node in graph.node]
        tensors = {name: self._tensor(name, kind) for name, kind in types.items()}
        constants = frozenset(tensor.name for tensor in graph.initializer)
        results = tuple(value.name for value in graph.output)
        return Program(tuple(operations), tensors, results, constants, frozenset(weights))

    def _operation(
        self, node: onnx.NodeProto, types: dict[str, onnx.TypeProto], known: dict[str, NDArray[Any]]
    ) -> Operation:
        """The node; its outputs are added to `types`, and to `known` where it computes a shape."""
        nested = [attribute.g for attribute in node.attribute if attribute.type == onnx.AttributeProto.GRAPH]
        branches = tuple(self.program(graph, types, known) for graph in nested)
        if branches:
            for place, name in enumerate(node.output):
                result = branches[0].tensors[branches[0].results[place]]
                element = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(result.dtype))
                types[name] = onnx.helper.make_tensor_type_proto(element, result.shape)
        else:
            types.update(self._types_of(node, types, known))
            known.update(self._computed(node, types, known))
        numbers = {a.name: tuple(a.ints) if a.ints else (a.i,) for a in node.attribute if a.ints or a.HasField("i")}
        return Operation(node.op_type, tuple(node.input), tuple(node.output), numbers, branches)

    def _types_of(
        self, node: onnx.NodeProto, types: Mapping[str, onnx.TypeProto], known: Mapping[str, NDArray[Any]]
    ) -> dict[str, onnx.TypeProto]:
        schema = onnx.defs.get_schema(node.op_type, self._opsets[node.domain], node.domain)
        inputs = [name for name in node.input if name]
        try:
            found = shape_inference.infer_node_outputs(
                schema,
                node,
                {name: types[name] for name in inputs},
                {name: numpy_helper.from_array(known[name], name) for name in inputs if name in known},
                opset_imports=self._imports,
                ir_version=self._ir_version,
            )
        except (KeyError, onnx.shape_inference.InferenceError) as error:
            raise InputFileError(f"{self._origin}: {node.op_type} {node.output[0]!r}: {error}") from error
        return {str(name): kind for name, kind in found.items() if name}

    def _computed(
        self, node: onnx.NodeProto, types: Mapping[str, onnx.TypeProto], known: Mapping[str, NDArray[Any]]
    ) -> dict[str, NDArray[Any]]:
        if not all(_is_short_integers(types[name]) for name in node.output if name in types):
            return {}
        values: dict[str, Any] = {name: known[name] for name in node.input if name in known}
        if node.op_type in ("Size", "Shape"):  # of them only the shape counts, and this takes no memory
            shape = self._tensor(node.input[0], types[node.input[0]]).shape
            values = {node.input[0]: np.broadcast_to(np.float32(0), shape)}
        if not all(name in values for name in node.input if name):
            return {}
        results: Any = ReferenceEvaluator(node, opsets=self._opsets).run(None, values)
        return {name: np.asarray(result) for name, result in zip(node.output, results, strict=True)}

    def _tensor(self, name: str, kind: onnx.TypeProto) -> Tensor:
        tensor = kind.tensor_type
        shape = [side.dim_value if side.HasField("dim_value") else None for side in tensor.shape.dim]
        sides = tuple(side for side in shape if side is not None)
        if not tensor.HasField("shape") or len(sides) < len(shape):
            raise InputFileError(
                f"{self._origin}: the size of {name!r} cannot be told from the graph; export it with frames of fixed "
                "size"
            )
        return Tensor(sides, onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).name)


def _is_short_integers(kind: onnx.TypeProto) -> bool:
    tensor = kind.tensor_type
    integers = tensor.elem_type in (onnx.TensorProto.INT64, onnx.TensorProto.INT32)
    return integers and math.prod(side.dim_value for side in tensor.shape.dim) <= _MOST_NUMBERS
