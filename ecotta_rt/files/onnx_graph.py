"""Read an ONNX model without the `onnx` package and without loading its weights.

A device is about to hand a file to onnxruntime; first it wants to know what that file asks for: which operators, which
other files, which inputs and outputs. The planner reads shapes and sizes from the same values.

    bytes  ->  read_model()  ->  Model

What two readers could understand differently is refused, as `ecotta_rt.files.protobuf` says; so is an attribute that is
given twice or has two values.

Source: the field numbers, https://github.com/onnx/onnx/blob/main/onnx/onnx.proto.

Not here: whether the graph computes anything sensible. onnxruntime checks types and shapes itself.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

__all__ = [
    "ELEMENT_TYPES",
    "Attribute",
    "ExternalReference",
    "Graph",
    "Initializer",
    "Model",
    "Node",
    "Value",
]

ELEMENT_TYPES = dict(
    enumerate("float32 uint8 int8 uint16 int16 int32 int64 string bool float16 float64 uint32 uint64".split(), 1)
)
"""ONNX's numbers for element types -> numpy's words."""

_ITEM_BYTES = {
    **dict.fromkeys(("uint8", "int8", "bool"), 1),
    **dict.fromkeys(("uint16", "int16", "float16"), 2),
    **dict.fromkeys(("float32", "int32", "uint32"), 4),
    **dict.fromkeys(("int64", "float64", "uint64"), 8),
}

Attribute = int | str | tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Value:
    """A tensor that a graph makes, takes or gives.

    Attributes:
        name: What it is called.
        dtype: numpy's word for the element type (`float32`), or "" where it is no tensor or of an unknown type.
        shape: Its dimensions; a string for a symbolic one, "?" for one that nobody named. None where nothing is said.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...] | None

    @property
    def sizes(self) -> tuple[int, ...] | None:
        """Its dimensions; None where one of them is not known."""
        sizes = tuple(size for size in self.shape or () if isinstance(size, int))
        return None if self.shape is None or len(sizes) < len(self.shape) else sizes

    @property
    def item_bytes(self) -> int:
        """Bytes of one element; 0 where the type is not known."""
        return _ITEM_BYTES.get(self.dtype, 0)

    @property
    def bytes(self) -> int:
        """Its size; 0 where type or shape are not known."""
        sizes = self.sizes
        return 0 if sizes is None else self.item_bytes * math.prod(sizes)


@dataclass(frozen=True, slots=True)
class Initializer:
    """A tensor with its numbers.

    Attributes:
        value: Its type and shape.
        external: Whether the numbers lie in another file, from where onnxruntime maps them.
    """

    value: Value
    external: bool


@dataclass(frozen=True, slots=True)
class Node:
    """One operator.

    Attributes:
        op: Its name, `Conv`.
        domain: Its operator set; the standard one is "" or "ai.onnx".
        name: What the model calls this node.
        inputs: Names of values; "" for one that is left out.
        outputs: Names of values; "" for one that is left out.
        attributes: Whole numbers, words and lists of whole numbers by name.
        graphs: The nested graphs with the name of their attribute, `then_branch`.
    """

    op: str
    domain: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Attribute] = field(default_factory=dict)
    graphs: "tuple[tuple[str, Graph], ...]" = ()


@dataclass(frozen=True, slots=True)
class Graph:
    """A graph, in the order of the file.

    Attributes:
        nodes: The operators, those of nested graphs not included.
        inputs: Names of what it takes that have no initial value.
        outputs: Names of what it gives.
        initializers: Its weights and constants by name.
        values: What it says of the other tensors, by name; inputs and outputs included.
        parts: How many nodes, initialisers, values and others there are in it.
    """

    nodes: tuple[Node, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    initializers: Mapping[str, Initializer]
    values: Mapping[str, Value]
    parts: int = 0

    def all_graphs(self) -> "Iterator[Graph]":
        """This graph, and behind it the nested ones."""
        yield self
        for node in self.nodes:
            for _, nested in node.graphs:
                yield from nested.all_graphs()

    def all_nodes(self) -> Iterator[Node]:
        """Every node, those of nested graphs included."""
        for graph in self.all_graphs():
            yield from graph.nodes


@dataclass(frozen=True)
class ExternalReference:
    """A tensor whose numbers lie in another file.

    Attributes:
        value: Its name, type and shape.
        location: The file, as written: a relative path to the model's folder.
        offset_bytes: Where in that file; 0 where the model does not say.
        length_bytes: How long; None where the model does not say.
    """

    value: Value
    location: str
    offset_bytes: int
    length_bytes: int | None


@dataclass(frozen=True)
class Model:
    """What a model holds and asks for.

    Attributes:
        ir_version: Version of the file format, 0 where it is not said.
        opsets: (domain, version) of each operator set it imports; the standard one is "" or "ai.onnx".
        graph: The graph.
        inputs: The graph's inputs that have no initial value, in order.
        outputs: The graph's outputs, in order.
        external: Tensors that lie in other files, wherever in the model they are mentioned.
        inline_bytes: Bytes of tensors that lie in the model itself.
        fields: How many protobuf fields were looked at.
    """

    ir_version: int
    opsets: tuple[tuple[str, int], ...]
    graph: Graph
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    external: tuple[ExternalReference, ...]
    inline_bytes: int
    fields: int = field(default=0, compare=False)
