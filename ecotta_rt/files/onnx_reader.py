"""From the bytes of an ONNX model to a `Model`; see `ecotta_rt.files.onnx_graph`."""

import re
from collections.abc import Mapping

from ecotta_rt.files.fields import shown
from ecotta_rt.files.onnx_graph import (
    ELEMENT_TYPES,
    Attribute,
    ExternalReference,
    Graph,
    Initializer,
    Model,
    Node,
    Value,
)
from ecotta_rt.files.protobuf import BYTES, MAX_FIELDS, MEASURED, NUMBER, PACKED, TEXT, Span, Wire

__all__ = ["MAX_GRAPH_DEPTH", "read_model"]

MAX_GRAPH_DEPTH = 8
"""How deep graphs may lie in the attributes of nodes (`If`, `Loop`, `Scan`)."""

_EXTERNAL = 1  # TensorProto.DataLocation
_INT, _STRING, _INTS = 2, 3, 7  # AttributeProto.AttributeType

# The known fields of each message.
_MODEL = {1: NUMBER, 7: TEXT, 8: TEXT, 20: TEXT, 25: TEXT}
_NODE = dict.fromkeys((1, 2, 3, 4, 5, 7), TEXT)
_ATTRIBUTE = dict.fromkeys((1, 4, 5, 6, 10, 11, 22, 23), TEXT) | {3: NUMBER, 8: PACKED, 20: NUMBER}
_TENSOR = {1: PACKED, 2: NUMBER, 8: TEXT, 9: TEXT, 13: TEXT, 14: NUMBER} | dict.fromkeys((4, 5, 6, 7, 10, 11), MEASURED)
_PAIR = {1: TEXT, 2: TEXT}

_MAX_RANK = 32
_MAX_VALUES = 4096  # inputs, outputs
_MAX_EXTERNAL = 1 << 16

# type { tensor_type { elem_type, shape { dim { dim_value } ... } } }, every length in one byte.
_DIMENSION = rb"\x0a(.)\x08([\x80-\xff]{0,8}[\x00-\x7f])"
_PLAIN_DIMENSION = re.compile(_DIMENSION, re.DOTALL)
_PLAIN_TYPE = re.compile(rb"\x12.\x0a.\x08([\x00-\x7f])\x12.((?:" + _DIMENSION + rb")*)", re.DOTALL)


def read_model(content: bytes | memoryview, origin: str) -> Model:
    """Read a model.

    Args:
        content: The whole ONNX file.
        origin: Its name, for messages.

    Returns:
        What it holds. Nothing of it is copied but names, words and whole numbers.

    Raises:
        InputFileError: Truncated, not ONNX, ambiguous, nested too deeply, with functions or training information of
            its own, or with more than `MAX_FIELDS` fields.
    """
    return _Reader(Wire(bytes(content), origin)).model()


class _Reader:
    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._external: list[ExternalReference] = []
        self._inline_bytes = 0
        # Each name, shape and list of attributes is there once, however often it is used.
        self._names: dict[str, str] = {}
        self._shapes: dict[tuple[int, ...], tuple[int, ...]] = {}
        self._attributes: dict[tuple[tuple[str, Attribute], ...], Mapping[str, Attribute]] = {}

    def model(self) -> Model:
        whole = (0, len(self._wire.content))
        message = self._wire.message("model", whole, _MODEL)
        for number, what in ((25, "functions of its own"), (20, "training information")):
            if message.all(number):
                raise self._wire.error(f"the model has {what}; expected one graph of standard operators")
        span = message.only("graph", 7)
        if span is None:
            raise self._wire.error("no graph in it; not an ONNX model")
        opsets = tuple(self._opset(span) for span in message.all(8))
        graph, inputs, outputs = self._graph(span, depth=1)
        return Model(
            ir_version=message.number("ir_version", 1),
            opsets=opsets,
            graph=graph,
            inputs=inputs,
            outputs=outputs,
            external=tuple(self._external),
            inline_bytes=self._inline_bytes,
            fields=MAX_FIELDS - self._wire.fields_left,
        )

    def _opset(self, span: Span) -> tuple[str, int]:
        message = self._wire.message("opset_import", span, {1: TEXT, 2: NUMBER})
        return message.text("domain", 1), message.number("version", 2)

    def _graph(self, span: Span, depth: int) -> tuple[Graph, tuple[Value, ...], tuple[Value, ...]]:
        if depth > MAX_GRAPH_DEPTH:
            raise self._wire.error(f"graphs nested more than {MAX_GRAPH_DEPTH} deep")
        nodes: list[Node] = []
        initializers: dict[str, Initializer] = {}
        listed: tuple[list[Value], list[Value]] = [], []
        values: dict[str, Value] = {}
        parts = 0
        # One by one, not by `message`: this is the message with thousands of parts.
        for number, kind, start, stop in self._wire.walk("graph", span):
            parts += 1
            if number in (1, 5, 11, 12, 13, 15) and kind != BYTES:
                raise self._wire.wrong_kind("graph", number, kind, start)
            if number == 1:
                nodes.append(self._node((start, stop), depth))
            elif number == 5 or number == 15:
                tensor = self._tensor((start, stop)) if number == 5 else self._sparse_tensor((start, stop))
                initializers[tensor.value.name] = tensor
            elif number in (11, 12, 13):
                value = self._plain_value(start, stop) or self._value((start, stop))
                values[value.name] = value
                if number != 13:
                    listed[number - 11].append(value)
                    if len(listed[number - 11]) > _MAX_VALUES:
                        raise self._wire.error(f"a graph with more than {_MAX_VALUES} inputs or outputs")
        # Before format version 4 a weight had to be listed among the inputs too; nobody feeds those.
        inputs = tuple(value for value in listed[0] if value.name not in initializers)
        taken, given = (tuple(value.name for value in each) for each in (inputs, listed[1]))
        return Graph(tuple(nodes), taken, given, initializers, values, parts), inputs, tuple(listed[1])

    def _node(self, span: Span, depth: int) -> Node:
        message = self._wire.message("node", span, _NODE)
        inputs, outputs = (
            tuple(self._shared(self._wire.text("node", "a name", *name)) for name in message.all(number))
            for number in (1, 2)
        )
        attributes: dict[str, Attribute] = {}
        graphs: list[tuple[str, Graph]] = []
        names = [self._attribute(attribute, attributes, graphs, depth) for attribute in message.all(5)]
        if len({*names}) < len(names):
            raise self._wire.error(f"a node's attributes are {shown(', '.join(names))}; expected each once")
        return Node(
            self._shared(message.text("op_type", 4)),
            self._shared(message.text("domain", 7)),
            message.text("name", 3),
            inputs,
            outputs,
            self._attributes.setdefault(tuple(attributes.items()), attributes),
            tuple(graphs),
        )

    def _shared(self, name: str) -> str:
        return self._names.setdefault(name, name)

    def _attribute(
        self, span: Span, attributes: dict[str, Attribute], graphs: list[tuple[str, Graph]], depth: int
    ) -> str:
        """Notes what an attribute holds and returns its name."""
        message = self._wire.message("attribute", span, _ATTRIBUTE)
        name = self._shared(message.text("name", 1))
        kind = message.number("type", 20)
        held = [number for number in (3, 4, 8) if number in message.spans]
        if len(held) > 1:
            raise self._wire.error(f"attribute {shown(name)} has {len(held)} values, expected one")
        if held == [3] or kind == _INT:
            attributes[name] = message.number("i", 3)
        elif held == [8] or kind == _INTS:
            attributes[name] = tuple(self._wire.packed(f"attribute {shown(name)}", message.all(8)))
        elif held == [4] or kind == _STRING:
            text = message.only("s", 4)
            attributes[name] = "" if text is None else self._wire.text("attribute", "s", *text, errors="replace")
        for number, what in ((5, "t"), (6, "g"), (22, "sparse_tensor")):
            message.only(what, number)
        for tensor in (*message.all(5), *message.all(10)):
            self._tensor(tensor)
        for tensor in (*message.all(22), *message.all(23)):
            self._sparse_tensor(tensor)
        for graph in (*message.all(6), *message.all(11)):
            graphs.append((name, self._graph(graph, depth + 1)[0]))
        return name

    def _sparse_tensor(self, span: Span) -> Initializer:
        message = self._wire.message("sparse tensor", span, _PAIR)
        message.only("indices", 2)
        values = message.only("values", 1)
        for indices in message.all(2):
            self._tensor(indices)
        return Initializer(Value("", "", None), external=False) if values is None else self._tensor(values)

    def _tensor(self, span: Span) -> Initializer:
        message = self._wire.message("tensor", span, _TENSOR)
        name = self._shared(message.text("name", 8))
        start, stop = message.only("raw_data", 9) or (0, 0)
        inline_bytes = message.measured_bytes + stop - start
        self._inline_bytes += inline_bytes
        sizes = tuple(self._wire.packed(f"tensor {shown(name)}", message.all(1)))
        value = Value(name, ELEMENT_TYPES.get(message.number("data_type", 2), ""), self._shared_shape(sizes))
        external = message.number("data_location", 14) == _EXTERNAL
        entries = [self._entry(name, entry) for entry in message.all(13)]
        if external != bool(entries) or (external and inline_bytes):
            raise self._wire.error(
                f"tensor {shown(name)} does not say clearly whether its data is here or in another file"
            )
        if external:
            self._external.append(self._reference(value, entries))
            if len(self._external) > _MAX_EXTERNAL:
                raise self._wire.error(f"more than {_MAX_EXTERNAL} tensors in other files")
        return Initializer(value, external)

    def _reference(self, value: Value, entries: list[tuple[str, str]]) -> ExternalReference:
        said = dict(entries)
        unknown = said.keys() - {"location", "offset", "length"}
        if len(said) < len(entries) or unknown or not said.get("location"):
            raise self._wire.error(
                f"external tensor {shown(value.name)} says {shown(', '.join(key for key, _ in entries))}; "
                "expected location, offset and length, each once"
            )
        return ExternalReference(
            value,
            location=said["location"],
            offset_bytes=self._whole_number(value.name, "offset", said.get("offset", "0")),
            length_bytes=self._whole_number(value.name, "length", said["length"]) if "length" in said else None,
        )

    def _entry(self, name: str, span: Span) -> tuple[str, str]:
        message = self._wire.message(f"external data of {shown(name)}", span, _PAIR)
        return message.text("key", 1), message.text("value", 2)

    def _whole_number(self, name: str, what: str, text: str) -> int:
        # int() would take signs, spaces, underscores and other alphabets' digits; onnxruntime's reader does not.
        if not (text.isascii() and text.isdecimal() and len(text) <= 19):
            raise self._wire.error(f"external tensor {shown(name)}: {what} {shown(text)} is no whole number")
        return int(text)

    def _shared_shape(self, sizes: tuple[int, ...]) -> tuple[int, ...]:
        return self._shapes.setdefault(sizes, sizes)

    def _plain_value(self, start: int, stop: int) -> Value | None:
        """A tensor of fixed shape as every writer has it, ten times as fast as field by field; None for any other."""
        content = self._wire.content[start:stop]
        if len(content) < 4 or content[0] != 0x0A or content[1] > 0x7F:
            return None
        name_end = 2 + content[1]
        found = _PLAIN_TYPE.fullmatch(content, name_end)
        if found is None or any(content[at] != len(content) - at - 1 for at in (name_end + 1, name_end + 3)):
            return None
        if content[found.start(2) - 1] != len(found[2]):
            return None
        shape: list[int] = []
        for length, size in _PLAIN_DIMENSION.findall(found[2]):
            if length[0] != len(size) + 1:
                return None
            shape.append(sum((byte & 0x7F) << 7 * place for place, byte in enumerate(size)))
        name = self._shared(str(content[2:name_end], "utf-8", "replace"))
        return Value(name, ELEMENT_TYPES.get(found[1][0], ""), self._shared_shape(tuple(shape)))

    def _value(self, span: Span) -> Value:
        message = self._wire.message("value", span, _PAIR)
        name = message.text("name", 1)
        kind = message.only("type", 2)
        tensor = kind and self._wire.message("type", kind, {1: TEXT}).only("tensor_type", 1)
        if not tensor:
            return Value(name, "", None)
        said = self._wire.message("tensor type", tensor, {1: NUMBER, 2: TEXT})
        dtype = ELEMENT_TYPES.get(said.number("elem_type", 1), "")
        shape = said.only("shape", 2)
        if shape is None:
            return Value(name, dtype, None)
        dims = self._wire.message("shape", shape, {1: TEXT}).all(1)
        if len(dims) > _MAX_RANK:
            raise self._wire.error(f"value {shown(name)} has {len(dims)} dimensions, more than {_MAX_RANK}")
        return Value(name, dtype, tuple(self._dimension(dim) for dim in dims))

    def _dimension(self, span: Span) -> int | str:
        message = self._wire.message("dimension", span, {1: NUMBER, 2: TEXT})
        if 1 in message.spans and 2 in message.spans:
            raise self._wire.error("a dimension has both a size and a name")
        return message.number("dim_value", 1) if 1 in message.spans else message.text("dim_param", 2) or "?"
