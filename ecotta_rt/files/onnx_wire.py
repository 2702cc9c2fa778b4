"""Look through an ONNX model without the `onnx` package and without loading its weights.

A device is about to hand a file to onnxruntime; first it wants to know what that file asks for: which operators, which
other files, which inputs and outputs. An ONNX model is one protobuf message. Its wire format is small: every field is a
number, one of four kinds, and a length or value; so a reader can step over what it does not need, megabytes at a time.

    bytes  ->  scan_onnx()  ->  OnnxScan

Unknown fields are stepped over, as protobuf asks. What two readers could understand differently is refused: a field
that ends outside its message, a known field of the wrong kind, and a single field given twice.

Source: the wire format, https://protobuf.dev/programming-guides/encoding/; the field numbers,
https://github.com/onnx/onnx/blob/main/onnx/onnx.proto.

Not here: whether the graph computes anything sensible. onnxruntime checks types and shapes itself.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from ecotta_rt.errors import InputFileError

__all__ = [
    "ELEMENT_TYPES",
    "MAX_FIELDS",
    "MAX_GRAPH_DEPTH",
    "ExternalReference",
    "GraphNode",
    "GraphScan",
    "GraphValue",
    "OnnxScan",
    "scan_onnx",
]

MAX_GRAPH_DEPTH = 8
"""How deep graphs may lie in the attributes of nodes (`If`, `Loop`, `Scan`)."""

MAX_FIELDS = 2_000_000
"""How many protobuf fields are looked at. A field may be two bytes, so that a small file could ask for hours."""

ELEMENT_TYPES = dict(
    enumerate("float32 uint8 int8 uint16 int16 int32 int64 string bool float16 float64 uint32 uint64".split(), 1)
)
"""ONNX's numbers for element types -> numpy's words."""

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_FIXED_BYTES = {_FIXED64: 8, _FIXED32: 4}
_KINDS = {_VARINT: "a number", _FIXED64: "8 bytes", _BYTES: "a string or message", _FIXED32: "4 bytes"}
_EXTERNAL = 1  # TensorProto.DataLocation
_DATA = (4, 5, 6, 7, 9, 10, 11)  # TensorProto's number lists, strings and raw_data
_MAX_RANK = 32
_MAX_NAME_BYTES = 4096
_MAX_VALUES = 4096  # inputs, outputs
_MAX_EXTERNAL = 1 << 16
_MAX_REPEATED = 1024  # of anything inside a message smaller than a graph

# type { tensor_type { elem_type, shape { dim { dim_value } ... } } }, every length in one byte.
_DIMENSION = rb"\x0a(.)\x08([\x80-\xff]{0,8}[\x00-\x7f])"
_PLAIN_DIMENSION = re.compile(_DIMENSION, re.DOTALL)
_PLAIN_TYPE = re.compile(rb"\x12.\x0a.\x08([\x00-\x7f])\x12.((?:" + _DIMENSION + rb")*)", re.DOTALL)

Integers = tuple[tuple[str, tuple[int, ...]], ...]
Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class GraphValue:
    """An input or output of the graph.

    Attributes:
        name: What it is called.
        dtype: numpy's word for the element type (`float32`), or "" where it is no tensor or of an unknown type.
        shape: Its dimensions; a string for a symbolic one, "?" for one that nobody named. None where nothing is said.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...] | None


@dataclass(frozen=True, slots=True)
class GraphNode:
    """One operator.

    Attributes:
        domain: Its operator set; the standard one is "" or "ai.onnx".
        op: Its name.
        inputs: Names of what it takes; "" for one that is left out.
        outputs: Names of what it makes.
        integers: Attributes that are whole numbers or lists of them, by name.
    """

    domain: str
    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    integers: Integers


@dataclass
class GraphScan:
    """One of the graphs in a model.

    Attributes:
        outer: Place of the graph around it in `OnnxScan.graphs`; -1 for the outermost.
        branch: Operator and attribute that hold it.
        nodes: Its operators, those of nested graphs not included.
        constants: Names of its initialisers.
        values: What it says of tensors by name, inputs and outputs included.
        parts: How many nodes, initialisers, values and others there are in it.
    """

    outer: int = -1
    branch: tuple[str, str] = ("", "")
    nodes: list[GraphNode] = field(default_factory=list)
    constants: set[str] = field(default_factory=set)
    values: dict[str, GraphValue] = field(default_factory=dict)
    parts: int = 0


@dataclass(frozen=True)
class ExternalReference:
    """A tensor whose numbers lie in another file.

    Attributes:
        name: The tensor's name.
        dtype: numpy's word for the element type, or "" for an unknown one.
        shape: Its dimensions.
        location: The file, as written: a relative path to the model's folder.
        offset_bytes: Where in that file; 0 where the model does not say.
        length_bytes: How long; None where the model does not say.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    location: str
    offset_bytes: int
    length_bytes: int | None


@dataclass(frozen=True)
class OnnxScan:
    """What a model asks for.

    Attributes:
        ir_version: Version of the file format, 0 where it is not said.
        opsets: (domain, version) of each operator set it imports; the standard one is "" or "ai.onnx".
        nodes: (domain, operator) of each node, those of nested graphs included.
        external: Tensors that lie in other files, wherever in the model they are mentioned.
        inline_bytes: Bytes of tensors that lie in the model itself.
        inputs: The graph's inputs that have no initial value, in order.
        outputs: The graph's outputs, in order.
        graphs: The graph, and behind it the nested ones.
        fields: How many protobuf fields were looked at.
    """

    ir_version: int
    opsets: tuple[tuple[str, int], ...]
    nodes: tuple[tuple[str, str], ...]
    external: tuple[ExternalReference, ...]
    inline_bytes: int
    inputs: tuple[GraphValue, ...]
    outputs: tuple[GraphValue, ...]
    graphs: tuple[GraphScan, ...] = ()
    fields: int = field(default=0, compare=False)


def scan_onnx(content: bytes | memoryview, origin: str) -> OnnxScan:
    """Look through a model.

    Args:
        content: The whole ONNX file.
        origin: Its name, for messages.

    Returns:
        What it asks for. Nothing of it is copied but names and whole numbers.

    Raises:
        InputFileError: Truncated, not ONNX, ambiguous, nested too deeply, with functions or training information of
            its own, or with more than `MAX_FIELDS` fields.
    """
    return _Scanner(bytes(content), origin).model()


@dataclass
class _Fields:
    """The known fields of one message: number -> where in the content each of them starts and stops."""

    spans: dict[int, list[Span]] = field(default_factory=dict)
    measured_bytes: int = 0


@dataclass
class _Found:
    """What has been collected so far, over all nested graphs."""

    nodes: list[tuple[str, str]] = field(default_factory=list)
    external: list[ExternalReference] = field(default_factory=list)
    inline_bytes: int = 0
    graphs: list[GraphScan] = field(default_factory=list)


class _Scanner:
    def __init__(self, content: bytes, origin: str) -> None:
        self._content = content
        self._origin = origin
        self._fields_left = MAX_FIELDS
        self._found = _Found()
        self._kinds: dict[tuple[str, str], tuple[str, str]] = {}  # so that thousands of nodes share a few pairs
        self._names: dict[
            str, str
        ] = {}  # and each name, shape and list of numbers is there once, however often it is used
        self._integers: dict[Integers, Integers] = {}
        self._shapes: dict[tuple[int, ...], tuple[int, ...]] = {}

    def model(self) -> OnnxScan:
        whole = (0, len(self._content))
        message = self._message("model", whole, numbers=(1,), spans=(7, 8, 20, 25))
        for number, what in ((25, "functions of its own"), (20, "training information")):
            if message.spans.get(number):
                raise self._error(f"the model has {what}; expected one graph of standard operators")
        graph = self._only_span("model", "graph", message, 7)
        if graph is None:
            raise self._error("no graph in it; not an ONNX model")
        opsets = tuple(self._opset(span) for span in message.spans.get(8, ()))
        inputs, outputs = self._graph(graph, GraphScan(), depth=1)
        return OnnxScan(
            ir_version=self._only_number("model", "ir_version", message, 1),
            opsets=opsets,
            nodes=tuple(self._found.nodes),
            external=tuple(self._found.external),
            inline_bytes=self._found.inline_bytes,
            inputs=inputs,
            outputs=outputs,
            graphs=tuple(self._found.graphs),
            fields=MAX_FIELDS - self._fields_left,
        )

    def _opset(self, span: Span) -> tuple[str, int]:
        message = self._message("opset_import", span, numbers=(2,), spans=(1,))
        version = self._only_number("opset_import", "version", message, 2)
        return self._only_text("opset_import", "domain", message, 1), version

    def _graph(self, span: Span, found: GraphScan, depth: int) -> tuple[tuple[GraphValue, ...], tuple[GraphValue, ...]]:
        if depth > MAX_GRAPH_DEPTH:
            raise self._error(f"graphs nested more than {MAX_GRAPH_DEPTH} deep")
        place = len(self._found.graphs)
        self._found.graphs.append(found)
        inputs: list[GraphValue] = []
        outputs: list[GraphValue] = []
        # One by one, not by `_message`: this is the message with thousands of parts.
        for number, kind, start, stop in self._walk("graph", span):
            found.parts += 1
            if number in (1, 5, 11, 12, 13, 15) and kind != _BYTES:
                raise self._wrong_kind("graph", number, kind, start)
            if number == 1:
                found.nodes.append(self._node((start, stop), place, depth))
            elif number == 5:
                found.constants.add(self._tensor((start, stop)))
            elif number == 15:
                found.constants.add(self._sparse_tensor((start, stop)))
            elif number in (11, 12, 13):
                value = self._plain_value(start, stop) or self._value((start, stop))
                found.values[value.name] = value
                if number != 13:
                    (inputs if number == 11 else outputs).append(value)
                if len(inputs) > _MAX_VALUES or len(outputs) > _MAX_VALUES:
                    raise self._error(f"a graph with more than {_MAX_VALUES} inputs or outputs")
        # Before format version 4 a weight had to be listed among the inputs too; nobody feeds those.
        return tuple(value for value in inputs if value.name not in found.constants), tuple(outputs)

    def _node(self, span: Span, place: int, depth: int) -> GraphNode:
        message = self._message("node", span, spans=(1, 2, 4, 5, 7))
        domain, op = self._only_text("node", "domain", message, 7), self._only_text("node", "op_type", message, 4)
        kind = self._kinds.setdefault((domain, op), (domain, op))
        self._found.nodes.append(kind)
        inputs, outputs = (
            tuple(self._shared(self._text("node", "a name", *span)) for span in message.spans.get(field, ()))
            for field in (1, 2)
        )
        integers: list[tuple[str, tuple[int, ...]]] = []
        for attribute in message.spans.get(5, ()):
            self._attribute(attribute, kind[1], integers, place, depth)
        known = tuple(integers)
        return GraphNode(*kind, inputs, outputs, self._integers.setdefault(known, known))

    def _shared(self, name: str) -> str:
        return self._names.setdefault(name, name)

    def _attribute(
        self, span: Span, op: str, integers: list[tuple[str, tuple[int, ...]]], place: int, depth: int
    ) -> None:
        message = self._message("attribute", span, numbers=(3,), spans=(1, 5, 6, 10, 11, 22, 23), packed=(8,))
        name = self._only_text("attribute", "name", message, 1)
        if 3 in message.spans or 8 in message.spans:
            listed = self._packed(f"attribute {_shown(name)}", message.spans.get(8, ()))
            single = (_signed(self._varint("i", *one)[0]) for one in message.spans.get(3, ()))
            integers.append((self._shared(name), (*listed, *single)))
        for number, what in ((5, "t"), (6, "g"), (22, "sparse_tensor")):
            self._only_span("attribute", what, message, number)
        for tensor in (*message.spans.get(5, ()), *message.spans.get(10, ())):
            self._tensor(tensor)
        for tensor in (*message.spans.get(22, ()), *message.spans.get(23, ())):
            self._sparse_tensor(tensor)
        for graph in (*message.spans.get(6, ()), *message.spans.get(11, ())):
            self._graph(graph, GraphScan(place, (op, name)), depth + 1)

    def _sparse_tensor(self, span: Span) -> str:
        message = self._message("sparse tensor", span, spans=(1, 2))
        self._only_span("sparse tensor", "indices", message, 2)
        values = self._only_span("sparse tensor", "values", message, 1)
        for indices in message.spans.get(2, ()):
            self._tensor(indices)
        return "" if values is None else self._tensor(values)

    def _tensor(self, span: Span) -> str:
        """Notes a tensor and returns its name."""
        message = self._message("tensor", span, numbers=(2, 14), spans=(8, 9, 13), measured=_DATA, packed=(1,))
        name = self._only_text("tensor", "name", message, 8)
        self._only_span("tensor", "raw_data", message, 9)
        self._found.inline_bytes += message.measured_bytes
        is_external = self._only_number("tensor", "data_location", message, 14) == _EXTERNAL
        entries = [self._entry(name, entry) for entry in message.spans.get(13, ())]
        if is_external != bool(entries) or (is_external and message.measured_bytes):
            raise self._error(f"tensor {_shown(name)} does not say clearly whether its data is here or in another file")
        if is_external:
            self._found.external.append(self._reference(name, message, entries))
            if len(self._found.external) > _MAX_EXTERNAL:
                raise self._error(f"more than {_MAX_EXTERNAL} tensors in other files")
        return name

    def _reference(self, name: str, message: _Fields, entries: Sequence[tuple[str, str]]) -> ExternalReference:
        said = dict(entries)
        unknown = said.keys() - {"location", "offset", "length"}
        if len(said) < len(entries) or unknown or not said.get("location"):
            raise self._error(
                f"external tensor {_shown(name)} says {_shown(', '.join(key for key, _ in entries))}; "
                "expected location, offset and length, each once"
            )
        return ExternalReference(
            name=name,
            dtype=ELEMENT_TYPES.get(self._only_number("tensor", "data_type", message, 2), ""),
            shape=tuple(self._packed(f"tensor {_shown(name)}", message.spans.get(1, ()))),
            location=said["location"],
            offset_bytes=self._whole_number(name, "offset", said.get("offset", "0")),
            length_bytes=self._whole_number(name, "length", said["length"]) if "length" in said else None,
        )

    def _entry(self, name: str, span: Span) -> tuple[str, str]:
        message = self._message(f"external data of {_shown(name)}", span, spans=(1, 2))
        key, value = (self._only_text("external data", what, message, n) for n, what in ((1, "key"), (2, "value")))
        return key, value

    def _whole_number(self, name: str, what: str, text: str) -> int:
        # int() would take signs, spaces, underscores and other alphabets' digits; onnxruntime's reader does not.
        if not (text.isascii() and text.isdecimal() and len(text) <= 19):
            raise self._error(f"external tensor {_shown(name)}: {what} {_shown(text)} is no whole number")
        return int(text)

    def _plain_value(self, start: int, stop: int) -> GraphValue | None:
        """A tensor of fixed shape as every writer has it, ten times as fast as field by field; None for any other."""
        content = self._content[start:stop]
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
        sizes = tuple(shape)
        return GraphValue(name, ELEMENT_TYPES.get(found[1][0], ""), self._shapes.setdefault(sizes, sizes))

    def _value(self, span: Span) -> GraphValue:
        message = self._message("value", span, spans=(1, 2))
        name = self._only_text("value", "name", message, 1)
        kind = self._only_span("value", "type", message, 2)
        tensor = kind and self._only_span("type", "tensor_type", self._message("type", kind, spans=(1,)), 1)
        if not tensor:
            return GraphValue(name, "", None)
        said = self._message("tensor type", tensor, numbers=(1,), spans=(2,))
        dtype = ELEMENT_TYPES.get(self._only_number("tensor type", "elem_type", said, 1), "")
        shape = self._only_span("tensor type", "shape", said, 2)
        if shape is None:
            return GraphValue(name, dtype, None)
        dims = self._message("shape", shape, spans=(1,)).spans.get(1, ())
        if len(dims) > _MAX_RANK:
            raise self._error(f"value {_shown(name)} has {len(dims)} dimensions, more than {_MAX_RANK}")
        return GraphValue(name, dtype, tuple(self._dimension(dim) for dim in dims))

    def _dimension(self, span: Span) -> int | str:
        message = self._message("dimension", span, numbers=(1,), spans=(2,))
        if 1 in message.spans and 2 in message.spans:
            raise self._error("a dimension has both a size and a name")
        if 1 in message.spans:
            return self._only_number("dimension", "dim_value", message, 1)
        return self._only_text("dimension", "dim_param", message, 2) or "?"

    def _message(
        self,
        what: str,
        span: Span,
        *,
        numbers: Sequence[int] = (),
        spans: Sequence[int] = (),
        packed: Sequence[int] = (),
        measured: Sequence[int] = (),
    ) -> _Fields:
        """The known fields of a message; the others are stepped over.

        Args:
            what: The message, for errors.
            span: Where it is.
            numbers: Fields that are a number.
            spans: Fields that are a string or message.
            packed: Fields that are numbers, one by one or several packed into bytes: writers do both.
            measured: Fields of which only the size counts.
        """
        found = _Fields()
        for number, kind, start, stop in self._walk(what, span):
            if number in measured:
                found.measured_bytes += stop - start
            if number not in spans and number not in numbers and number not in packed:
                continue
            expected = (_VARINT,) if number in numbers else (_BYTES,) if number in spans else (_VARINT, _BYTES)
            if kind not in expected:
                raise self._wrong_kind(what, number, kind, start)
            places = found.spans.setdefault(number, [])
            places.append((start, stop))
            if len(places) > _MAX_REPEATED:
                raise self._error(f"{what}: field {number} is given more than {_MAX_REPEATED} times")
        return found

    def _walk(self, what: str, span: Span) -> Iterator[tuple[int, int, int, int]]:
        """Yields (field number, kind, start, stop) of each field; start to stop is what it holds."""
        content, (position, end) = self._content, span
        while position < end:
            self._fields_left -= 1
            if self._fields_left < 0:
                raise self._error(f"more than {MAX_FIELDS} fields")
            tag_at = position
            tag, position = content[position], position + 1
            if tag > 0x7F:  # else it is the number itself, as it nearly always is; so are most lengths
                tag, position = self._varint(what, tag_at, end)
            number, kind = tag >> 3, tag & 7
            start = position
            if kind == _BYTES and 0 < number < 1 << 29:
                if position < end and content[position] < 0x80:
                    length, start = content[position], position + 1
                else:
                    length, start = self._varint(what, position, end)
                position = start + length
            elif not 0 < number < 1 << 29 or kind not in _KINDS:  # kinds 3 and 4, groups, are older than ONNX
                raise self._error(f"{what}: field {number} of kind {kind} at byte {tag_at}; not an ONNX model")
            elif kind == _VARINT:
                _, position = self._varint(what, position, end)
            else:
                position += _FIXED_BYTES[kind]
            if position > end:
                where = f"field {number} at byte {tag_at} reaches to byte {position}"
                raise self._error(f"{what}: {where}, but its message ends at {end}: truncated?")
            yield number, kind, start, position

    def _varint(self, what: str, position: int, end: int) -> Span:
        """A number of 64 bits, seven a byte, and where it ends."""
        value = shift = 0
        start = position
        while position < end and shift < 70:
            byte = self._content[position]
            position += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value & 0xFFFF_FFFF_FFFF_FFFF, position
            shift += 7
        why = "is longer than ten bytes" if shift >= 70 else f"is cut off where its message ends, at {end}: truncated?"
        raise self._error(f"{what}: the number at byte {start} {why}")

    def _packed(self, name: str, spans: Sequence[Span]) -> Iterator[int]:
        count = 0
        for position, end in spans:
            while position < end:
                count += 1
                if count > _MAX_RANK:
                    raise self._error(f"{name} has more than {_MAX_RANK} dimensions")
                value, position = self._varint("dims", position, end)
                yield _signed(value)

    def _only_span(self, what: str, name: str, message: _Fields, number: int) -> Span | None:
        spans = message.spans.get(number, ())
        if len(spans) > 1:
            raise self._error(f"{what}: {name} is given {len(spans)} times, expected once")
        return spans[0] if spans else None

    def _only_number(self, what: str, name: str, message: _Fields, number: int) -> int:
        span = self._only_span(what, name, message, number)
        return 0 if span is None else _signed(self._varint(what, *span)[0])

    def _only_text(self, what: str, name: str, message: _Fields, number: int) -> str:
        span = self._only_span(what, name, message, number)
        if span is None:
            return ""
        return self._text(what, name, *span)

    def _text(self, what: str, name: str, start: int, stop: int) -> str:
        if stop - start > _MAX_NAME_BYTES:
            raise self._error(f"{what}: {name} has {stop - start} bytes, more than {_MAX_NAME_BYTES}")
        try:
            return str(self._content[start:stop], "utf-8")
        except UnicodeDecodeError as error:
            raise self._error(f"{what}: {name} at byte {start} is not UTF-8") from error

    def _wrong_kind(self, what: str, number: int, kind: int, start: int) -> InputFileError:
        return self._error(f"{what}: field {number} at byte {start} is {_KINDS[kind]}, which it cannot be")

    def _error(self, problem: str) -> InputFileError:
        return InputFileError(f"{self._origin}: {problem}")


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value  # protobuf's int64 is two's complement


def _shown(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:77] + "...")
