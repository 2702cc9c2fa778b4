"""Read the nodes, shapes and sizes of an ONNX model without the `onnx` package.

For models that onnxruntime has written a moment ago, its optimised graphs, and for graphs of a bundle, which have been
through `ecotta_rt.files.onnx_wire`. That steps over what is of no weight to it, so a stranger's shapes may still be
nonsense.

Source: the field numbers, https://github.com/onnx/onnx/blob/main/onnx/onnx.proto.
"""

import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from ecotta_rt.errors import InputFileError
from ecotta_rt.files.onnx_wire import ELEMENT_TYPES
from ecotta_rt.files.protobuf_fields import read_fields, read_varint

__all__ = ["Attribute", "Graph", "Initializer", "Node", "Value", "read_graph"]

Attribute = int | float | str | tuple[int, ...]

_ITEM_BYTES = {
    **dict.fromkeys(("uint8", "int8", "bool"), 1),
    **dict.fromkeys(("uint16", "int16", "float16"), 2),
    **dict.fromkeys(("float32", "int32", "uint32"), 4),
    **dict.fromkeys(("int64", "float64", "uint64"), 8),
}
_EXTERNAL = 1  # TensorProto.DataLocation
_INT, _STRING, _INTS = 2, 3, 7  # AttributeProto.AttributeType


@dataclass(frozen=True)
class Value:
    """A tensor that a graph makes or takes.

    Attributes:
        item_bytes: Of one element.
        shape: Its dimensions; None where the model does not say.
    """

    item_bytes: int
    shape: tuple[int, ...] | None

    @property
    def bytes(self) -> int:
        """Its size; 0 where the shape is not known."""
        return 0 if self.shape is None else self.item_bytes * math.prod(self.shape)


@dataclass(frozen=True)
class Initializer:
    """A tensor with its numbers.

    Attributes:
        value: Its type and shape.
        external: Whether the numbers lie in another file, from where onnxruntime maps them.
    """

    value: Value
    external: bool


@dataclass(frozen=True)
class Node:
    """One operator.

    Attributes:
        op: Its name, `Conv`.
        domain: Its operator set; "" for the standard one.
        name: What the model calls this node.
        inputs: Names of values; "" for one that is left out.
        outputs: Names of values; "" for one that is left out.
        attributes: Numbers, words and lists of numbers by name.
        graphs: The nested graphs by name, `then_branch`.
    """

    op: str
    domain: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Attribute] = field(default_factory=dict)
    graphs: Mapping[str, "Graph"] = field(default_factory=dict)


@dataclass(frozen=True)
class Graph:
    """A graph, in the order of the file.

    Attributes:
        nodes: The operators.
        inputs: Names of what it takes.
        outputs: Names of what it gives.
        initializers: Its weights and constants by name.
        values: What is known of the other tensors, by name.
    """

    nodes: tuple[Node, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    initializers: Mapping[str, Initializer]
    values: Mapping[str, Value]


def read_graph(content: bytes) -> Graph:
    """The graph of a model.

    Raises:
        InputFileError: There is no number where ONNX has one. onnxruntime steps over such a field.
    """
    try:
        for number, _, payload in read_fields(memoryview(content)):
            if number == 7:
                return _graph(payload)
    except (IndexError, struct.error) as error:
        raise InputFileError(
            "an ONNX model with a field of another kind than ONNX has there; export it again"
        ) from error
    return Graph((), (), (), {}, {})


def _graph(message: memoryview) -> Graph:
    nodes: list[Node] = []
    inputs: list[str] = []
    outputs: list[str] = []
    initializers: dict[str, Initializer] = {}
    values: dict[str, Value] = {}
    for number, _, payload in read_fields(message):
        if number == 1:
            nodes.append(_node(payload))
        elif number == 5:
            name, initializer = _initializer(payload)
            initializers[name] = initializer
        elif number in (11, 12, 13):
            name, value = _value(payload)
            values[name] = value
            if number != 13:
                (inputs if number == 11 else outputs).append(name)
    given = tuple(name for name in inputs if name not in initializers)
    return Graph(tuple(nodes), given, tuple(outputs), initializers, values)


def _node(message: memoryview) -> Node:
    texts: dict[int, list[str]] = {1: [], 2: [], 3: [], 4: [], 7: []}
    attributes: dict[str, Attribute] = {}
    graphs: dict[str, Graph] = {}
    for number, _, payload in read_fields(message):
        if number in texts:
            texts[number].append(_text(payload))
        elif number == 5:
            name, attribute = _attribute(payload)
            if isinstance(attribute, Graph):
                graphs[name] = attribute
            elif attribute is not None:
                attributes[name] = attribute
    return Node(
        op="".join(texts[4]),
        domain="".join(texts[7]),
        name="".join(texts[3]),
        inputs=tuple(texts[1]),
        outputs=tuple(texts[2]),
        attributes=attributes,
        graphs=graphs,
    )


def _attribute(message: memoryview) -> tuple[str, Attribute | Graph | None]:
    name, kind = "", 0
    integer, text, integers = 0, "", []
    for number, whole, payload in read_fields(message):
        if number == 1:
            name = _text(payload)
        elif number == 20:
            kind = _number(payload)
        elif number == 3:
            integer = _signed(_number(payload))
        elif number == 4:
            text = _text(payload)
        elif number == 6:
            return name or _name_of(message), _graph(payload)
        elif number == 8:
            integers += [_signed(value) for value in _numbers(whole, payload)]
    by_kind: dict[int, Attribute] = {_INT: integer, _STRING: text, _INTS: tuple(integers)}
    return name, by_kind.get(kind)


def _name_of(attribute: memoryview) -> str:
    return next((_text(payload) for number, _, payload in read_fields(attribute) if number == 1), "")


def _initializer(message: memoryview) -> tuple[str, Initializer]:
    name, kind, external = "", 0, False
    shape: list[int] = []
    for number, whole, payload in read_fields(message):
        if number == 1:
            shape += _numbers(whole, payload)
        elif number == 2:
            kind = _number(payload)
        elif number == 8:
            name = _text(payload)
        elif number == 14:
            external = _number(payload) == _EXTERNAL
    return name, Initializer(Value(_item_bytes(kind), tuple(shape)), external)


def _value(message: memoryview) -> tuple[str, Value]:
    name, value = "", Value(0, None)
    for number, _, payload in read_fields(message):
        if number == 1:
            name = _text(payload)
        elif number == 2:
            for kind, _, tensor in read_fields(payload):
                if kind == 1:
                    value = _tensor_type(tensor)
    return name, value


def _tensor_type(message: memoryview) -> Value:
    kind, shape = 0, None
    for number, _, payload in read_fields(message):
        if number == 1:
            kind = _number(payload)
        elif number == 2:
            shape = _dimensions(payload)
    return Value(_item_bytes(kind), shape)


def _dimensions(message: memoryview) -> tuple[int, ...] | None:
    shape = []
    for number, _, dimension in read_fields(message):
        if number == 1:
            known = [_number(payload) for field_number, _, payload in read_fields(dimension) if field_number == 1]
            if not known:
                return None
            shape += known
    return tuple(shape)


def _item_bytes(kind: int) -> int:
    return _ITEM_BYTES.get(ELEMENT_TYPES.get(kind, ""), 0)


def _text(payload: memoryview) -> str:
    return bytes(payload).decode("utf-8", "replace")


def _number(payload: memoryview) -> int:
    return read_varint(payload, 0)[0]


def _numbers(whole: memoryview, payload: memoryview) -> Iterator[int]:
    """A repeated number: one a field, or many packed into one."""
    if whole[0] & 7 == 0:
        yield _number(payload)
        return
    position = 0
    while position < len(payload):
        value, position = read_varint(payload, position)
        yield value


def _signed(value: int) -> int:
    return struct.unpack("<q", struct.pack("<Q", value))[0]  # type: ignore[no-any-return]
