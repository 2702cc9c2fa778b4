import onnx
import pytest
from onnx import TensorProto, helper

from ecotta_rt.bundle import read_bundle
from ecotta_rt.errors import InputFileError
from ecotta_rt.plan.graph import Value, read_graph


@pytest.fixture(scope="module", params=["running", "source", "batch"])
def models(request, tiny):
    """Each graph of a bundle, read by us and by the `onnx` package."""
    bundle = read_bundle(tiny.bundle(request.param))
    contents = [bundle.graph(graph.name) for graph in bundle.manifest.graphs]
    return [(read_graph(content), onnx.load_model_from_string(content).graph) for content in contents]


def pairs(ours, theirs):
    """Graphs beside each other, those in attributes too."""
    yield ours, theirs
    for node, other in zip(ours.nodes, theirs.node, strict=True):
        for attribute in other.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from pairs(node.graphs[attribute.name], attribute.g)


def test_nodes_are_those_that_onnx_reads(models):
    for ours, theirs in models:
        for graph, other in pairs(ours, theirs):
            found = [(node.op, node.domain, node.name, node.inputs, node.outputs) for node in graph.nodes]
            expected = [(n.op_type, n.domain, n.name, tuple(n.input), tuple(n.output)) for n in other.node]
            assert found == expected


def test_attributes_are_those_that_onnx_reads(models):
    kinds = {onnx.AttributeProto.INT, onnx.AttributeProto.INTS, onnx.AttributeProto.STRING}
    for ours, theirs in models:
        for graph, other in pairs(ours, theirs):
            for node, their_node in zip(graph.nodes, other.node, strict=True):
                for attribute in their_node.attribute:
                    if attribute.type in kinds:
                        value = helper.get_attribute_value(attribute)
                        value = tuple(value) if isinstance(value, list) else value
                        value = value.decode() if isinstance(value, bytes) else value
                        assert node.attributes[attribute.name] == value


def test_shapes_and_weights_are_those_that_onnx_reads(models):
    for ours, theirs in models:
        for graph, other in pairs(ours, theirs):
            shapes = {
                info.name: tuple(d.dim_value for d in info.type.tensor_type.shape.dim)
                for info in [*other.value_info, *other.input, *other.output]
            }
            assert {name: value.shape for name, value in graph.values.items()} == shapes
            weights = {w.name: (tuple(w.dims), w.data_location == TensorProto.EXTERNAL) for w in other.initializer}
            assert {name: (w.value.shape, w.external) for name, w in graph.initializers.items()} == weights
            assert graph.outputs == tuple(info.name for info in other.output)


def test_a_dimension_that_is_only_named_makes_the_shape_unknown():
    info = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3])
    model = helper.make_model(helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [info], []))

    assert read_graph(model.SerializeToString()).values["x"] == Value(4, None)


def test_a_negative_attribute_keeps_its_sign():
    node = helper.make_node("Softmax", ["x"], ["y"], axis=-1)
    model = helper.make_model(helper.make_graph([node], "g", [], []))

    assert read_graph(model.SerializeToString()).nodes[0].attributes["axis"] == -1


def test_an_elements_size_is_that_of_its_type(subtests):
    for kind, size in [("FLOAT", 4), ("INT64", 8), ("BOOL", 1), ("FLOAT16", 2), ("UINT8", 1), ("DOUBLE", 8)]:
        with subtests.test(kind=kind):
            info = helper.make_tensor_value_info("x", getattr(TensorProto, kind), [2, 3])
            model = helper.make_model(helper.make_graph([], "g", [info], []))

            assert read_graph(model.SerializeToString()).values["x"].bytes == 6 * size


@pytest.mark.parametrize("number", [b"\x0a\x00", b"\x0a\x02\xff\xff"], ids=["nothing", "an endless number"])
def test_a_text_where_a_number_belongs_is_refused(number):
    """protobuf, and with it onnxruntime, steps over it; `scan_onnx` does not look at the shapes between nodes."""
    shape = wrapped(1, number)  # a dimension
    value = wrapped(2, wrapped(1, wrapped(2, shape)))  # type, tensor type, shape
    model = wrapped(7, wrapped(13, value))

    with pytest.raises(InputFileError, match="a field of another kind"):
        read_graph(model)


def wrapped(number, payload):
    """A message as a field of another; all are short."""
    return bytes([number << 3 | 2, len(payload)]) + payload
