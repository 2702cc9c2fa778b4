"""Inputs of a graph become constants of it."""

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

from ecotta_rt.bundle.fixing import allows_constants, with_constants
from ecotta_rt.files.onnx_reader import read_model


def product():
    """A graph of x * scale + shift."""
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 3]) for name in ("x", "scale")]
    nodes = [helper.make_node("Mul", ["x", "scale"], ["scaled"]), helper.make_node("Add", ["scaled", "shift"], ["y"])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 3])]
    shift = helper.make_tensor("shift", TensorProto.FLOAT, [1], [0.5])
    graph = helper.make_graph(nodes, "product", inputs, outputs, [shift])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10).SerializeToString()


def test_the_input_is_gone_and_the_result_the_same():
    scale = np.arange(6, dtype=np.float32).reshape(3, 2).T  # not contiguous
    x = np.ones((2, 3), np.float32)

    content = with_constants(product(), {"scale": scale})

    onnx.checker.check_model(onnx.load_model_from_string(content), full_check=True)
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    assert [value.name for value in session.get_inputs()] == ["x"]
    np.testing.assert_array_equal(session.run(None, {"x": x})[0], scale + np.float32(0.5))


def test_without_constants_not_a_byte_is_another():
    assert with_constants(product(), {}) == product()


def test_what_would_be_computed_at_load_keeps_an_input_an_input():
    """There no ceiling holds for memory: an Expand of a constant could take all there is."""
    model = read_model(product(), "product")
    assert allows_constants(model, ["scale"])
    assert not allows_constants(model, ["x", "scale"])
