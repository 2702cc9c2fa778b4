"""Large constants of several graphs: named, stored once, and referred to."""

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from ecotta_rt.bundle import place_weights
from ecotta_rt.exporter.builder import GraphBuilder
from ecotta_rt.exporter.frozen_weights import FrozenWeights, digest_of
from ecotta_rt.exporter.liveness import infer_shapes
from ecotta_rt.exporter.rewriter import Rewriter


def weight(seed=0, shape=(16, 16)):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def graph_with(*constants):
    """X times each of them."""
    g = GraphBuilder()
    x = g.input("x", ir.DataType.FLOAT, [16, 16])
    return g.finish([(f"y{i}", g.op("Mul", x, g.constant(array))) for i, array in enumerate(constants)], "g")


def moved_out(weights, model):
    return onnx.load_model_from_string(weights.move_out(model))


def places(proto):
    """(name, offset, length) of the tensors that lie outside."""
    found = []
    for tensor in proto.graph.initializer:
        said = {entry.key: entry.value for entry in tensor.external_data}
        if said:
            assert said["location"] == "weights.bin"
            found.append((tensor.name, int(said["offset"]), int(said["length"])))
    return found


def test_equal_weights_of_two_graphs_are_one():
    weights = FrozenWeights({digest_of(weight(0)): "conv.weight"})
    first, second = graph_with(weight(0), weight(1)), graph_with(weight(2), weight(0))

    for model in (first, second):
        weights.collect(model)

    assert len(weights.arrays) == 3
    shared = [place for place in places(moved_out(weights, first)) if place in places(moved_out(weights, second))]
    assert [name for name, _, _ in shared] == ["conv.weight"]


def test_a_weight_that_nobody_named_is_called_after_what_is_in_it():
    weights = FrozenWeights({})
    model = graph_with(weight())

    weights.collect(model)

    assert list(weights.arrays) == [f"weight.{digest_of(weight()).hex()[:16]}"]


def test_references_are_where_the_bundle_puts_the_weights():
    weights = FrozenWeights({})
    model = graph_with(weight(0, (16, 16)), weight(1, (3, 16, 16)))
    weights.collect(model)

    found = places(moved_out(weights, model))

    listed = place_weights({name: array.shape for name, array in weights.arrays.items()})
    assert found == [(entry.name, entry.offset, entry.bytes) for entry in listed]


@pytest.mark.parametrize(
    "small", [np.ones((255, 1), np.float32)[:16], np.arange(256).reshape(16, 16)], ids=["few", "integers"]
)
def test_small_constants_and_integers_stay_in_their_graph(small):
    g = GraphBuilder()
    x = g.input("x", ir.DataType.FLOAT, [16, 16])
    constant = g.constant(small)
    model = g.finish(
        [("y", g.op("Mul", x, constant if small.dtype == np.float32 else g.op("Cast", constant, to=1)))], "g"
    )
    weights = FrozenWeights({})

    weights.collect(model)

    assert not weights.arrays
    assert places(moved_out(weights, model)) == []


def test_a_constant_that_a_pass_made_a_second_time_is_the_first():
    model = graph_with(weight())
    rewriter = Rewriter(model.graph)
    with rewriter.before(model.graph[0]):
        again = rewriter.op("Add", model.graph.inputs[0], rewriter.constant(weight()))
    model.graph[1].replace_input_with(0, again)
    weights = FrozenWeights({})

    weights.collect(model)

    assert [node.inputs[1].name for node in model.graph] == list(weights.arrays) * 2
    assert len(model.graph.initializers) == 1
    infer_shapes(model)
    onnx.checker.check_model(ir.to_proto(model))


def test_equal_numbers_of_another_shape_are_another_weight():
    assert digest_of(weight(0, (2, 8))) != digest_of(weight(0, (2, 8)).reshape(8, 2))
    assert digest_of(weight(0)[:, ::2]) == digest_of(np.ascontiguousarray(weight(0)[:, ::2]))


def test_weights_of_a_nested_graph_are_stored_like_any_other():
    """One that the outer graph has too is read from there: within a model a name stands for one thing."""
    g = GraphBuilder()
    x, kept = g.input("x", ir.DataType.FLOAT, [16, 16]), g.input("kept", ir.DataType.BOOL, [])
    y = g.op("Mul", x, g.constant(weight(0)))
    model = g.finish([("y", y)], "g")
    constants = [ir.Value(name=f"b{i}", const_value=ir.tensor(weight(i), name=f"b{i}")) for i in range(2)]
    scaled = [ir.node("Mul", [x, value]) for value in constants]
    then = ir.Graph([], [n.outputs[0] for n in scaled], nodes=scaled, initializers=constants, name="then")
    plain = [ir.node("Identity", [x]) for _ in constants]
    otherwise = ir.Graph([], [n.outputs[0] for n in plain], nodes=plain, name="else")
    for i, node in enumerate([*scaled, *plain]):
        node.outputs[0].name = f"n{i}"
    model.graph.append(ir.node("If", [kept], {"then_branch": then, "else_branch": otherwise}, num_outputs=2))
    weights = FrozenWeights({digest_of(weight(0)): "conv.weight"})

    weights.collect(model)
    proto = moved_out(weights, model)

    (inner,) = (a.g for node in proto.graph.node for a in node.attribute if a.name == "then_branch")
    assert len(weights.arrays) == 2
    assert [name for name, _, _ in places(proto)] == ["conv.weight"]
    (own,) = inner.initializer
    assert own.external_data and [list(node.input)[1] for node in inner.node] == ["conv.weight", own.name]
