"""External tensors pointed into the bundle file: against the onnx package, and all else byte for byte."""

import copy

import numpy as np
import onnx
import onnxruntime
from hypothesis import given
from hypothesis import strategies as st
from onnx import AttributeProto, TensorProto, helper

from ecotta_rt.bundle.relocate import relocate


def external(name, offset=0, length=64, shape=(16,)):
    """A tensor in weights.bin; no word of the offset where it is None."""
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=shape, data_location=TensorProto.EXTERNAL)
    for key, value in (("location", "weights.bin"), ("offset", offset), ("length", length)):
        if value is not None:
            tensor.external_data.add(key=key, value=str(value))
    return tensor


def inline(name, values=(1.0, 2.0)):
    return onnx.numpy_helper.from_array(np.array(values, np.float32), name)


def model(initialisers=(), nodes=(), **fields):
    graph = helper.make_graph(list(nodes), "g", [], [], list(initialisers), **fields)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def tensors_of(graph):
    """Every tensor of a graph, wherever it is."""
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
            for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
                yield from (sparse.values, sparse.indices)
            for nested in (attribute.g, *attribute.graphs):
                yield from tensors_of(nested)


def moved(before, location, start):
    """What is expected, said in the onnx package's words."""
    after = copy.deepcopy(before)
    for tensor in tensors_of(after.graph):
        said = {entry.key: entry.value for entry in tensor.external_data}
        if said:
            del tensor.external_data[:]
            offset = str(int(said.get("offset", 0)) + start)
            for key, value in {**said, "location": location, "offset": offset}.items():
                tensor.external_data.add(key=key, value=value)
    return after


def check(before, location="net.ecotta", start=4096):
    found = onnx.load_model_from_string(relocate(before.SerializeToString(), location, start))

    assert found == moved(before, location, start)


def test_an_initialiser_is_read_further_back_in_the_file_of_the_bundle():
    check(model([external("w", offset=128)]))


def test_an_offset_that_was_left_out_is_written_down():
    check(model([external("w", offset=None)]))


def test_a_length_that_was_left_out_stays_so():
    check(model([external("w", length=None)]))


def nested(inner):
    """A node with a graph in it."""
    return helper.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=helper.make_graph([], "e", [], []))


def sparse(name):
    values, indices = external(f"{name}.values"), external(f"{name}.indices")
    return onnx.SparseTensorProto(values=values, indices=indices, dims=[64])


def with_attribute(attribute):
    return onnx.NodeProto(op_type="Any", attribute=[attribute])


PLACES = {
    "an attribute": model(nodes=[helper.make_node("Constant", [], ["w"], value=external("w"))]),
    "a list in an attribute": model(
        nodes=[
            with_attribute(
                AttributeProto(name="all", type=AttributeProto.TENSORS, tensors=[inline("a"), external("b")])
            )
        ]
    ),
    "a nested graph": model(nodes=[nested(helper.make_graph([], "t", [], [], [external("w")]))]),
    "a graph in a nested graph": model(
        nodes=[nested(helper.make_graph([nested(helper.make_graph([], "u", [], [], [external("w")]))], "t", [], []))]
    ),
    "a sparse initialiser": model(sparse_initializer=[sparse("s")]),
    "a sparse attribute": model(
        nodes=[
            with_attribute(AttributeProto(name="s", type=AttributeProto.SPARSE_TENSOR, sparse_tensor=sparse("s"))),
        ]
    ),
}


def test_a_tensor_is_shifted_wherever_it_stands(subtests):
    """Onnxruntime reads them all; one that was left out would come from another file."""
    for before in PLACES.values():
        with subtests.test(before=before):
            check(before)


def test_a_model_without_external_tensors_stays_as_it_is():
    content = model([inline("a")], [helper.make_node("Constant", [], ["weights.bin"], value=inline("weights.bin"))])

    assert relocate(content.SerializeToString(), "n", 10) == content.SerializeToString()


def test_what_this_reader_does_not_know_is_kept():
    """A field of a later version of the format, of each kind: a number, 8 bytes, a string, 4 bytes."""
    strange = b"\xf8\x3e\x96\x01" + b"\xf9\x3e12345678" + b"\xfa\x3e\x03abc" + b"\xfd\x3e1234"
    graph = external("w").SerializeToString() + strange
    tensor = b"\x2a" + bytes([len(graph)]) + graph
    content = strange + b"\x3a" + bytes([len(tensor)]) + tensor + strange

    found = relocate(content, "n", 0)

    assert found.count(strange) == 3
    assert found.startswith(strange) and found.endswith(strange)


names = st.text(min_size=1, max_size=12).filter(lambda text: text.isprintable())


@st.composite
def models(draw):
    tensors = []
    for name in draw(st.lists(names, max_size=6, unique=True)):
        numbers = draw(st.lists(st.floats(width=32), max_size=40))
        offset = draw(st.none() | st.integers(0, 1 << 40))
        tensors.append(draw(st.sampled_from([inline(name, numbers), external(name, offset)])))
    nodes = [helper.make_node("Add", ["a", "b"], [draw(names)]) for _ in range(draw(st.integers(0, 3)))]
    return model(tensors, nodes, doc_string=draw(names))


@given(models(), st.text(min_size=1, max_size=300).filter(lambda text: "\0" not in text), st.integers(0, 1 << 40))
def test_any_model_is_what_the_onnx_package_makes_of_it(before, location, start):
    try:
        location.encode()
    except UnicodeEncodeError:
        return
    check(before, location, start)


def test_onnxruntime_reads_the_numbers_that_lie_there(tmp_path):
    numbers = np.arange(100, dtype=np.float32)
    (tmp_path / "net.ecotta").write_bytes(b"x" * 4096 + numbers.tobytes())
    value = helper.make_tensor_value_info("y", TensorProto.FLOAT, [16])
    w, constant = external("w", offset=64), helper.make_node("Constant", [], ["c"], value=external("c", offset=None))
    before = model([w], [constant, helper.make_node("Add", ["w", "c"], ["y"])])
    before.graph.output.append(value)
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(tmp_path))

    content = relocate(before.SerializeToString(), "net.ecotta", 4096)
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])

    np.testing.assert_array_equal(session.run(None, {})[0], numbers[16:32] + numbers[:16])
