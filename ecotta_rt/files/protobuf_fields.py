"""Walk through a protobuf message field by field, as far as its wire format tells without a schema.

For content that somebody has checked (`ecotta_rt.files.onnx_wire`) or that is our own: a truncated message is not
noticed.

Source: https://protobuf.dev/programming-guides/encoding/.
"""

from collections.abc import Iterator

__all__ = ["read_fields", "read_varint"]

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_FIXED_BYTES = {_FIXED64: 8, _FIXED32: 4}


def read_fields(message: memoryview) -> Iterator[tuple[int, memoryview, memoryview]]:
    """Number, whole field and payload of each field.

    The lowest 3 bits of a whole field's first byte are its kind.
    """
    position = 0
    while position < len(message):
        begin = position
        tag, position = read_varint(message, position)
        kind = tag & 7
        length = _FIXED_BYTES.get(kind, 0)
        if kind == _BYTES:
            length, position = read_varint(message, position)
        elif kind == _VARINT:
            length = read_varint(message, position)[1] - position
        yield tag >> 3, message[begin : position + length], message[position : position + length]
        position += length


def read_varint(message: memoryview, position: int) -> tuple[int, int]:
    """The number that begins at `position`, and the position after it."""
    value = shift = 0
    while True:
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
