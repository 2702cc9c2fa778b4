"""Point a graph's external tensors at their place in the bundle itself.

A graph says "bytes 4096 to 8192 of weights.bin". In the bundle those bytes lie further back, in a file of another name;
with that name and the shifted offsets onnxruntime maps the weights straight from the bundle: nothing is unpacked, and
no byte of them is held twice.

Only what `check_graph` has accepted may come here. It accepts external tensors wherever a model may hold one, and
onnxruntime reads them all: so all are shifted, those in the attributes of nodes and in nested graphs too. One that was
forgotten would be read from whatever file of the old name lies beside the bundle.
"""

from ecotta_rt.bundle.graph_check import WEIGHTS
from ecotta_rt.files.protobuf import Span, Wire, encode_field

__all__ = ["relocate"]

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
    wire = Wire(content, "a graph of a bundle")
    return _moved(wire, "model", (0, len(content)), location.encode(), start)


def _moved(wire: Wire, kind: str, span: Span, location: bytes, start: int) -> bytes:
    if kind == "tensor":
        return _moved_tensor(wire, span, location, start)
    pieces: list[bytes] = []
    begin = span[0]
    for number, _, first, end in wire.walk(kind, span):
        part = _PARTS[kind].get(number)
        # Most nodes have nothing to do with the weights: a look at their bytes is faster than a walk through them.
        if part is None or (part != "graph" and wire.content.find(_OLD_NAME, first, end) < 0):
            pieces.append(wire.content[begin:end])
        else:
            pieces.append(encode_field(number, _moved(wire, part, (first, end), location, start)))
        begin = end
    return b"".join(pieces)


def _moved_tensor(wire: Wire, span: Span, location: bytes, start: int) -> bytes:
    pieces: list[bytes] = []
    entries: dict[bytes, bytes] = {}
    begin = span[0]
    for number, _, first, end in wire.walk("tensor", span):
        if number == _EXTERNAL_DATA:
            said = {field: wire.content[at:stop] for field, _, at, stop in wire.walk("external data", (first, end))}
            entries[said.get(_KEY, b"")] = said.get(_VALUE, b"")
        else:
            pieces.append(wire.content[begin:end])
        begin = end
    if entries:
        # A writer may leave out an offset of 0; here it is none any more.
        entries |= {b"location": location, b"offset": str(start + int(entries.get(b"offset", b"0"))).encode()}
    for key, value in entries.items():
        pieces.append(encode_field(_EXTERNAL_DATA, encode_field(_KEY, key) + encode_field(_VALUE, value)))
    return b"".join(pieces)
