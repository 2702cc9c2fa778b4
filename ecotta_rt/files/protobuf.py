"""Read a protobuf message on the wire, without a schema and without trust.

The wire format is small: every field is a number, one of four kinds, and a length or value; so a reader can step over
what it does not need, megabytes at a time. Unknown fields are stepped over, as protobuf asks. What two readers could
understand differently is refused: a field that ends outside its message, a known field of the wrong kind, and a single
field given twice.

Source: https://protobuf.dev/programming-guides/encoding/.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from ecotta_rt.errors import InputFileError

__all__ = [
    "BYTES",
    "MAX_FIELDS",
    "MEASURED",
    "NUMBER",
    "PACKED",
    "TEXT",
    "FieldKind",
    "Message",
    "Span",
    "Wire",
    "encode_field",
    "encode_number",
    "signed",
]

MAX_FIELDS = 2_000_000
"""How many fields are looked at. A field may be two bytes, so that a small file could ask for hours."""

BYTES = 2
"""The wire's kind of strings and messages."""

_VARINT, _FIXED64, _FIXED32 = 0, 1, 5

FieldKind = tuple[int, ...]
NUMBER: FieldKind = (_VARINT,)
TEXT: FieldKind = (BYTES,)
"""A string, or a message."""
PACKED: FieldKind = (_VARINT, BYTES)
"""Numbers, one by one or several packed into bytes: writers do both."""
MEASURED: FieldKind = ()
"""A field of which only the size counts."""

_FIXED_BYTES = {_FIXED64: 8, _FIXED32: 4}
_KINDS = {_VARINT: "a number", _FIXED64: "8 bytes", BYTES: "a string or message", _FIXED32: "4 bytes"}
_MAX_TEXT_BYTES = 4096
_MAX_REPEATED = 1024  # of anything inside one message
_MAX_PACKED = 32

Span = tuple[int, int]
"""Where in the content something starts and stops."""


@dataclass(slots=True)
class Message:
    """The known fields of one message.

    Attributes:
        wire: The content it is in.
        what: Its name, for errors.
        spans: Number -> where in the content each field of that number starts and stops.
        measured_bytes: Sizes of those that were only measured.
    """

    wire: "Wire"
    what: str
    spans: dict[int, list[Span]] = field(default_factory=dict)
    measured_bytes: int = 0

    def all(self, number: int) -> Sequence[Span]:
        """Every field of this number."""
        return self.spans.get(number, ())

    def only(self, name: str, number: int) -> Span | None:
        """A field that may be there once."""
        spans = self.spans.get(number, ())
        if len(spans) > 1:
            raise self.wire.error(f"{self.what}: {name} is given {len(spans)} times, expected once")
        return spans[0] if spans else None

    def number(self, name: str, number: int) -> int:
        """A number that may be there once; else 0."""
        span = self.only(name, number)
        return 0 if span is None else signed(self.wire.varint(self.what, *span)[0])

    def text(self, name: str, number: int) -> str:
        """A text that may be there once; else ""."""
        span = self.only(name, number)
        return "" if span is None else self.wire.text(self.what, name, *span)


class Wire:
    """A file that is one message.

    Args:
        content: The whole file.
        origin: Its name, for messages.

    Attributes:
        fields_left: How many more fields may be looked at.

    Every method raises `InputFileError` for what is no sound message.
    """

    def __init__(self, content: bytes, origin: str) -> None:
        self.content = content
        self.fields_left = MAX_FIELDS
        self._origin = origin

    def message(self, what: str, span: Span, known: Mapping[int, FieldKind]) -> Message:
        """The known fields of a message; the others are stepped over.

        Args:
            what: The message, for errors.
            span: Where it is.
            known: Number of each known field -> one of the kinds above.
        """
        found = Message(self, what)
        spans = found.spans
        for number, kind, start, stop in self.walk(what, span):
            expected = known.get(number)
            if expected is None:
                continue
            if expected is MEASURED:
                found.measured_bytes += stop - start
                continue
            if kind not in expected:
                raise self.wrong_kind(what, number, kind, start)
            places = spans.setdefault(number, [])
            places.append((start, stop))
            if len(places) > _MAX_REPEATED:
                raise self.error(f"{what}: field {number} is given more than {_MAX_REPEATED} times")
        return found

    def walk(self, what: str, span: Span) -> Iterator[tuple[int, int, int, int]]:
        """(Field number, kind, start, stop) of each field: start to stop is its payload, and there the next begins."""
        content, (position, end) = self.content, span
        while position < end:
            self.fields_left -= 1
            if self.fields_left < 0:
                raise self.error(f"more than {MAX_FIELDS} fields")
            tag_at = position
            tag, position = content[position], position + 1
            if tag > 0x7F:  # else it is the number itself, as it nearly always is; so are most lengths
                tag, position = self.varint(what, tag_at, end)
            number, kind = tag >> 3, tag & 7
            start = position
            if kind == BYTES and 0 < number < 1 << 29:
                if position < end and content[position] < 0x80:
                    length, start = content[position], position + 1
                else:
                    length, start = self.varint(what, position, end)
                position = start + length
            elif not 0 < number < 1 << 29 or kind not in _KINDS:  # kinds 3 and 4, groups, are older than ONNX
                raise self.error(f"{what}: field {number} of kind {kind} at byte {tag_at}; not an ONNX model")
            elif kind == _VARINT:
                _, position = self.varint(what, position, end)
            else:
                position += _FIXED_BYTES[kind]
            if position > end:
                where = f"field {number} at byte {tag_at} reaches to byte {position}"
                raise self.error(f"{what}: {where}, but its message ends at {end}: truncated?")
            yield number, kind, start, position

    def varint(self, what: str, position: int, end: int) -> Span:
        """A number of 64 bits, seven a byte, and where it ends."""
        value = shift = 0
        start = position
        while position < end and shift < 70:
            byte = self.content[position]
            position += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value & 0xFFFF_FFFF_FFFF_FFFF, position
            shift += 7
        why = "is longer than ten bytes" if shift >= 70 else f"is cut off where its message ends, at {end}: truncated?"
        raise self.error(f"{what}: the number at byte {start} {why}")

    def packed(self, name: str, spans: Sequence[Span]) -> Iterator[int]:
        """Whole numbers, one by one or several packed into bytes."""
        count = 0
        for position, end in spans:
            while position < end:
                count += 1
                if count > _MAX_PACKED:
                    raise self.error(f"{name} has more than {_MAX_PACKED} dimensions")
                value, position = self.varint("dims", position, end)
                yield signed(value)

    def text(self, what: str, name: str, start: int, stop: int, errors: str = "strict") -> str:
        """A short text in UTF-8."""
        if stop - start > _MAX_TEXT_BYTES:
            raise self.error(f"{what}: {name} has {stop - start} bytes, more than {_MAX_TEXT_BYTES}")
        try:
            return str(self.content[start:stop], "utf-8", errors)
        except UnicodeDecodeError as error:
            raise self.error(f"{what}: {name} at byte {start} is not UTF-8") from error

    def wrong_kind(self, what: str, number: int, kind: int, start: int) -> InputFileError:
        """The error about a field that is of no kind it can be."""
        return self.error(f"{what}: field {number} at byte {start} is {_KINDS[kind]}, which it cannot be")

    def error(self, problem: str) -> InputFileError:
        """An error that names the file."""
        return InputFileError(f"{self._origin}: {problem}")


def signed(value: int) -> int:
    """Protobuf's int64, two's complement."""
    return value - (1 << 64) if value >> 63 else value


def encode_field(number: int, payload: bytes) -> bytes:
    """A field with a string or message."""
    return _encoded(number << 3 | BYTES) + _encoded(len(payload)) + payload


def encode_number(number: int, value: int) -> bytes:
    """A field with a whole number that is not negative."""
    return _encoded(number << 3) + _encoded(value)


def _encoded(value: int) -> bytes:
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
