"""The smallest ONNX model that shows whether convolutions work here, written byte by byte: a device has no `onnx`.

    frames [1, 16, 8, 8]  ->  Conv, 16 filters of 3x3, every weight 1/256  ->  Relu  ->  answer [1, 16, 6, 6]

Frames of ones make 144/256 everywhere, whatever the order of the sums: nothing of it is rounded. 16 channels are enough
for the processor's fast kernels to be picked.

Source: the field numbers, https://github.com/onnx/onnx/blob/main/onnx/onnx.proto; the wire format,
https://protobuf.dev/programming-guides/encoding/.
"""

import struct
from collections.abc import Sequence

__all__ = ["ANSWER", "FRAMES_SHAPE", "tiny_graph"]

FRAMES_SHAPE = (1, 16, 8, 8)

ANSWER = 144 / 256
"""Every element of the answer to frames of ones."""

_FILTER_SHAPE = (16, 16, 3, 3)
_ANSWER_SHAPE = (1, 16, 6, 6)
_IR_VERSION, _OPSET = 8, 17  # of 2022: every onnxruntime that we allow reads them
_FLOAT32 = 1


def tiny_graph() -> bytes:
    """The model."""
    weights = struct.pack("<2304f", *[1 / 256] * 2304)
    graph = (
        _part(1, _text(1, "frames") + _text(1, "weights") + _text(2, "mixed") + _text(4, "Conv"))
        + _part(1, _text(1, "mixed") + _text(2, "answer") + _text(4, "Relu"))
        + _text(2, "tiny")
        + _part(5, _dims(1, _FILTER_SHAPE) + _number(2, _FLOAT32) + _text(8, "weights") + _part(9, weights))
        + _part(11, _value("frames", FRAMES_SHAPE))
        + _part(12, _value("answer", _ANSWER_SHAPE))
    )
    return _number(1, _IR_VERSION) + _part(7, graph) + _part(8, _text(1, "") + _number(2, _OPSET))


def _value(name: str, shape: Sequence[int]) -> bytes:
    dims = b"".join(_part(1, _number(1, size)) for size in shape)
    return _text(1, name) + _part(2, _part(1, _number(1, _FLOAT32) + _part(2, dims)))


def _dims(field: int, sizes: Sequence[int]) -> bytes:
    return b"".join(_number(field, size) for size in sizes)


def _text(field: int, text: str) -> bytes:
    return _part(field, text.encode())


def _part(field: int, content: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(content)) + content


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _varint(value: int) -> bytes:
    more = b""
    while value > 0x7F:
        more += bytes([value & 0x7F | 0x80])
        value >>= 7
    return more + bytes([value])
