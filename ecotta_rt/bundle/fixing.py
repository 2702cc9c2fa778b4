"""Make inputs of a graph constants of it: what never changes need not be an input.

onnxruntime then does at load what it would do at every run, and lays the weights of convolutions out for its fastest
kernels. WRN-40-2 with four meta groups, which learn nothing: a tenth of an answer's time on x86-64.

What depends on constants alone is computed at load, where no ceiling holds for memory. So nothing may but what takes no
more than the constants themselves, each once and in few steps: `allows_constants`.
"""

from collections.abc import Collection, Mapping

import numpy as np
from numpy.typing import NDArray

from ecotta_rt.files.onnx_graph import Model
from ecotta_rt.files.protobuf import TEXT, Span, Wire, encode_field, encode_number

__all__ = ["allows_constants", "with_constants"]

_PARTING = ("Split", "Reshape", "Identity")
_MOST_STEPS = 4  # one after the other, each as large as the constants; ours take 2

_GRAPH = 7  # of ModelProto
_INITIALIZER, _INPUT = 5, 11  # of GraphProto
_INPUT_NAME = 1  # of ValueInfoProto
_DIMS, _TYPE, _NAME, _RAW = 1, 2, 8, 9  # of TensorProto
_FLOAT = 1


def allows_constants(model: Model, names: Collection[str]) -> bool:
    """Whether nothing but parting and reshaping would depend on constants alone, if these inputs were constants.

    Each value at most once, and in few steps: a graph that reshapes one constant a thousand times would have a thousand
    copies of it at load. The sizes that a graph declares are not asked, since onnxruntime lets them be false.
    """
    constants = {*names, *model.graph.initializers}
    steps = dict.fromkeys(names, 0)  # to each value that comes from these inputs and was not used up yet
    for node in model.graph.nodes:
        if not node.inputs or not all(name in constants for name in node.inputs if name):
            continue
        if node.op not in _PARTING:
            return False
        constants.update(node.outputs)
        if node.inputs[0] not in model.graph.initializers:
            taken = 1 + steps.pop(node.inputs[0], _MOST_STEPS)
            if taken > _MOST_STEPS:
                return False
            steps.update(dict.fromkeys(node.outputs, taken))
    return True


def with_constants(content: bytes, constants: Mapping[str, NDArray[np.float32]]) -> bytes:
    """The model with constants in place of its inputs of these names; all else is byte for byte the same.

    Args:
        content: An ONNX model that `check_graph` has accepted.
        constants: float32, by name of an input.
    """
    wire = Wire(content, "a graph of a bundle")
    pieces, begin = [], 0
    for number, _, first, end in wire.walk("model", (0, len(content))):
        graph = number == _GRAPH
        pieces.append(encode_field(number, _fixed(wire, (first, end), constants)) if graph else content[begin:end])
        begin = end
    return b"".join(pieces)


def _fixed(wire: Wire, span: Span, constants: Mapping[str, NDArray[np.float32]]) -> bytes:
    pieces, begin = [], span[0]
    for number, _, first, end in wire.walk("graph", span):
        if number != _INPUT or _name(wire, (first, end)) not in constants:
            pieces.append(wire.content[begin:end])
        begin = end
    return b"".join(pieces) + b"".join(_initializer(name, array) for name, array in constants.items())


def _name(wire: Wire, span: Span) -> str:
    return wire.message("input", span, {_INPUT_NAME: TEXT}).text("name", _INPUT_NAME)


def _initializer(name: str, array: NDArray[np.float32]) -> bytes:
    described = b"".join(encode_number(_DIMS, side) for side in array.shape) + encode_number(_TYPE, _FLOAT)
    numbers = np.ascontiguousarray(array, "<f4").tobytes()
    return encode_field(_INITIALIZER, described + encode_field(_NAME, name.encode()) + encode_field(_RAW, numbers))
