"""Sizes of all tensors, from the graph alone."""

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from ecotta_rt.errors import InputFileError
from oracle.program import Tensor, read_program


def model_of(nodes, inputs, outputs, constants=()):
    ports = [
        [helper.make_tensor_value_info(name, kind, shape) for name, kind, shape in side] for side in (inputs, outputs)
    ]
    initialisers = [numpy_helper.from_array(np.asarray(array), name) for name, array in constants]
    graph = helper.make_graph(nodes, "g", *ports, initialisers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


def program_of(*given):
    return read_program(model_of(*given).SerializeToString(), "g")


def test_each_tensor_has_the_size_that_its_operator_gives_it():
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("Greater", ["a", "zero"], ["mask"]),
        helper.make_node("Split", ["a", "halves"], ["left", "right"], axis=1),
        helper.make_node("Transpose", ["left"], ["y"], perm=[1, 0, 2, 3]),
    ]
    constants = [("w", np.zeros((4, 3, 3, 3), np.float32)), ("zero", np.float32(0)), ("halves", np.array([1, 3]))]

    program = program_of(nodes, [("x", 1, [2, 3, 8, 8])], [("y", 1, None)], constants)

    assert program.tensors["a"] == Tensor((2, 4, 4, 4), "float32")
    assert program.tensors["mask"] == Tensor((2, 4, 4, 4), "bool")
    assert program.tensors["mask"].size_bytes == 128
    assert [program.tensors[name].shape[1] for name in ("left", "right")] == [1, 3]
    assert program.tensors["y"].shape == (1, 2, 4, 4)
    assert program.operations[0].numbers == {"pads": (1, 1, 1, 1), "strides": (2, 2)}
    assert (program.results, program.constants, program.weights) == (("y",), {"w", "zero", "halves"}, frozenset())


def test_a_shape_that_the_graph_computes_is_followed():
    """As the exporter writes it to make a later operation wait: the size of one tensor plus what is left of a shape."""
    nodes = [
        helper.make_node("Size", ["x"], ["count"]),
        helper.make_node("Add", ["count", "rest"], ["shape"]),
        helper.make_node("Reshape", ["x", "shape"], ["a"]),
        helper.make_node("Shape", ["a"], ["sides"], start=1),
        helper.make_node("Expand", ["one", "sides"], ["y"]),
    ]
    constants = [("rest", np.array([-4, -3])), ("one", np.float32(1))]

    program = program_of(nodes, [("x", 1, [6])], [("y", 1, None)], constants)

    assert (program.tensors["a"].shape, program.tensors["y"].shape) == ((2, 3), (3,))


def test_what_was_noted_beside_the_values_is_not_believed():
    model = model_of(
        [helper.make_node("Neg", ["x"], ["a"]), helper.make_node("Neg", ["a"], ["y"])], [("x", 1, [6])], [("y", 1, [6])]
    )
    model.graph.value_info.append(helper.make_tensor_value_info("a", TensorProto.FLOAT, [1000]))

    assert read_program(model.SerializeToString(), "g").tensors["a"].shape == (6,)


def test_a_branch_sees_what_is_around_it_and_gives_its_node_the_sizes():
    inner = helper.make_graph(
        [helper.make_node("Concat", ["x", "x"], ["double"], axis=0)],
        "then",
        [],
        [helper.make_tensor_value_info("double", 1, None)],
    )
    other = helper.make_graph(
        [helper.make_node("Exp", ["twelve"], ["same"])], "else", [], [helper.make_tensor_value_info("same", 1, None)]
    )
    nodes = [helper.make_node("If", ["condition"], ["y"], then_branch=inner, else_branch=other)]
    inputs = [("x", 1, [6]), ("twelve", 1, [12]), ("condition", 9, [])]

    program = program_of(nodes, inputs, [("y", 1, [12])])

    assert program.tensors["y"] == Tensor((12,), "float32")
    branches = {branch.results: branch for branch in program.operations[0].branches}
    assert branches.keys() == {("double",), ("same",)}
    assert branches[("double",)].tensors["double"].size_bytes == 48


def test_weights_in_a_file_beside_it_are_told_apart_and_not_looked_for():
    model = model_of([helper.make_node("MatMul", ["x", "w"], ["y"])], [("x", 1, [2, 3])], [("y", 1, [2, 5])])
    weight = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[3, 5], data_location=TensorProto.EXTERNAL)
    weight.external_data.add(key="location", value="weights.bin")
    model.graph.initializer.append(weight)

    program = read_program(model.SerializeToString(), "g")

    assert program.weights == program.constants == {"w"}
    assert program.tensors["w"].size_bytes == 60


def test_a_size_that_hangs_on_the_data_is_refused_with_the_name_of_the_tensor():
    nodes = [helper.make_node("NonZero", ["x"], ["a"]), helper.make_node("Cast", ["a"], ["y"], to=1)]

    with pytest.raises(InputFileError, match="g: the size of 'a' cannot be told"):
        program_of(nodes, [("x", 1, [6])], [("y", 1, None)])


def test_an_operator_that_does_not_fit_its_inputs_is_refused_by_name():
    nodes = [helper.make_node("MatMul", ["x", "x"], ["y"])]

    with pytest.raises(InputFileError, match="g: MatMul 'y'"):
        program_of(nodes, [("x", 1, [2, 3])], [("y", 1, None)])
