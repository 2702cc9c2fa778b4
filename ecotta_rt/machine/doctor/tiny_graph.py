"""The smallest ONNX model that shows whether convolutions work here, written byte by byte: a device has no `onnx`.

    frames [1, 16, 8, 8]  ->  Conv, 16 filters of 3x3, every weight 1/256  ->  Relu  ->  answer [1, 16, 6, 6]

Frames of ones make 144/256 everywhere, whatever the order of the sums: nothing of it is rounded. 16 channels are enough
for the processor's fast kernels to be picked.

Source: the field numbers, https://github.com/onnx/onnx/blob/main/onnx/onnx.proto; the wire format,
https://protobuf.dev/programming-guides/encoding/.
"""

import struct
from collections.abc import Sequence

from ecotta_rt.files.protobuf import encode_field, encode_number

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
        encode_field(1, _text(1, "frames") + _text(1, "weights") + _text(2, "mixed") + _text(4, "Conv"))
        + encode_field(1, _text(1, "mixed") + _text(2, "answer") + _text(4, "Relu"))
        + _text(2, "tiny")
        + encode_field(
            5, _dims(1, _FILTER_SHAPE) + encode_number(2, _FLOAT32) + _text(8, "weights") + encode_field(9, weights)
        )
        + encode_field(11, _value("frames", FRAMES_SHAPE))
        + encode_field(12, _value("answer", _ANSWER_SHAPE))
    )
    return (
        encode_number(1, _IR_VERSION)
        + encode_field(7, graph)
        + encode_field(8, _text(1, "") + encode_number(2, _OPSET))
    )


def _value(name: str, shape: Sequence[int]) -> bytes:
    dims = b"".join(encode_field(1, encode_number(1, size)) for size in shape)
    return _text(1, name) + encode_field(2, encode_field(1, encode_number(1, _FLOAT32) + encode_field(2, dims)))


def _dims(field: int, sizes: Sequence[int]) -> bytes:
    return b"".join(encode_number(field, size) for size in sizes)


def _text(field: int, text: str) -> bytes:
    return encode_field(field, text.encode())
