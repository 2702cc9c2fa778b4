"""Point a graph's external tensors at their place in the bundle itself.

A graph says "bytes 4096 to 8192 of weights.bin". In the bundle those bytes lie further back, in a file of another name;
with that name and the shifted offsets onnxruntime maps the weights straight from the bundle: nothing is unpacked, and
no byte of them is held twice.

Only what `scan_onnx` has accepted may come here.
"""

from collections.abc import Callable, Iterator

__all__ = ["relocate"]

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_FIXED_BYTES = {_FIXED64: 8, _FIXED32: 4}
_GRAPH, _INITIALISER, _EXTERNAL_DATA = 7, 5, 13  # fields of ModelProto, GraphProto, TensorProto
_KEY, _VALUE = 1, 2  # of StringStringEntryProto


def relocate(content: bytes, location: str, start: int) -> bytes:
    """Rewrite every external initialiser of the main graph.

    Args:
        content: An ONNX model.
        location: Name of the file that holds the weights, beside which the model is thought to be.
        start: Where they begin in that file, in bytes.

    Returns:
        The model, otherwise byte for byte the same.
    """

    def entry(message: memoryview) -> bytes:
        said = {number: bytes(payload) for number, _, payload in _fields(message)}
        value = said.get(_VALUE, b"")
        if said.get(_KEY) == b"location":
            value = location.encode()
        elif said.get(_KEY) == b"offset":
            value = str(start + int(value)).encode()
        return _field(_KEY, said.get(_KEY, b"")) + _field(_VALUE, value)

    def tensor(message: memoryview) -> bytes:
        return _mapped(message, _EXTERNAL_DATA, entry)

    def graph(message: memoryview) -> bytes:
        return _mapped(message, _INITIALISER, tensor)

    return _mapped(memoryview(content), _GRAPH, graph)


def _mapped(message: memoryview, number: int, change: Callable[[memoryview], bytes]) -> bytes:
    """The message with `change` applied to every submessage of that number."""
    pieces: list[bytes | memoryview] = []
    for found, whole, payload in _fields(message):
        pieces.append(_field(number, change(payload)) if found == number else whole)
    return b"".join(pieces)


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview, memoryview]]:
    """Number, whole field and payload of each field."""
    position = 0
    while position < len(message):
        begin = position
        tag, position = _read_varint(message, position)
        kind = tag & 7
        length = _FIXED_BYTES.get(kind, 0)
        if kind == _BYTES:
            length, position = _read_varint(message, position)
        elif kind == _VARINT:
            length = _read_varint(message, position)[1] - position
        yield tag >> 3, message[begin : position + length], message[position : position + length]
        position += length


def _read_varint(message: memoryview, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def _field(number: int, payload: bytes) -> bytes:
    return _varint(number << 3 | _BYTES) + _varint(len(payload)) + payload
