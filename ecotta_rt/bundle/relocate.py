"""Point a graph's external tensors at their place in the bundle itself.

A graph says "bytes 4096 to 8192 of weights.bin". In the bundle those bytes lie further back, in a file of another name;
with that name and the shifted offsets onnxruntime maps the weights straight from the bundle: nothing is unpacked, and
no byte of them is held twice.

Only what `check_graph` has accepted may come here. It accepts external tensors wherever a model may hold one, and
onnxruntime reads them all: so all are shifted, those in the attributes of nodes and in nested graphs too. One that was
forgotten would be read from whatever file of the old name lies beside the bundle.
"""

from ecotta_rt.bundle.graph_check import WEIGHTS
from ecotta_rt.files.protobuf_fields import read_fields

__all__ = ["relocate"]

_BYTES = 2  # the wire's kind of strings and messages

_PARTS = {  # message -> number of a field -> the message in it, as far as tensors lie there
    "model": {7: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse tensor"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse tensor", 23: "sparse tensor"},
    "sparse tensor": {1: "tensor", 2: "tensor"},
}
_EXTERNAL_DATA = 13  # of TensorProto
_KEY, _VALUE = 1, 2  # of StringStringEntryProto
_OLD_NAME = WEIGHTS.encode()


def relocate(content: bytes, location: str, start: int) -> bytes:
    """Rewrite every external tensor.

    Args:
        content: An ONNX model.
        location: Name of the file that holds the weights, beside which the model is thought to be.
        start: Where they begin in that file, in bytes.

    Returns:
        The model, otherwise byte for byte the same.
    """
    return _moved("model", memoryview(content), location.encode(), start)


def _moved(kind: str, message: memoryview, location: bytes, start: int) -> bytes:
    if kind == "tensor":
        return _moved_tensor(message, location, start)
    pieces: list[bytes | memoryview] = []
    for number, whole, payload in read_fields(message):
        part = _PARTS[kind].get(number)
        # Most nodes have nothing to do with the weights: a look at their bytes is faster than a walk through them.
        if part is None or (part != "graph" and _OLD_NAME not in bytes(payload)):
            pieces.append(whole)
        else:
            pieces.append(_field(number, _moved(part, payload, location, start)))
    return b"".join(pieces)


def _moved_tensor(message: memoryview, location: bytes, start: int) -> bytes:
    pieces: list[bytes | memoryview] = []
    entries: dict[bytes, bytes] = {}
    for number, whole, payload in read_fields(message):
        if number == _EXTERNAL_DATA:
            said = {field: bytes(text) for field, _, text in read_fields(payload)}
            entries[said.get(_KEY, b"")] = said.get(_VALUE, b"")
        else:
            pieces.append(whole)
    if entries:
        # A writer may leave out an offset of 0; here it is none any more.
        entries |= {b"location": location, b"offset": str(start + int(entries.get(b"offset", b"0"))).encode()}
    pieces += [_field(_EXTERNAL_DATA, _field(_KEY, key) + _field(_VALUE, value)) for key, value in entries.items()]
    return b"".join(pieces)


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def _field(number: int, payload: bytes) -> bytes:
    return _varint(number << 3 | _BYTES) + _varint(len(payload)) + payload
