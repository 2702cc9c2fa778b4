"""The scanner against the onnx package on models drawn at random, and against bytes that nobody should read."""

from collections import Counter
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecotta_rt.bundle import read_bundle
from ecotta_rt.errors import InputFileError
from ecotta_rt.files import protobuf
from ecotta_rt.files.onnx_graph import ELEMENT_TYPES, ExternalReference, Value
from ecotta_rt.files.onnx_reader import read_model

onnx = pytest.importorskip("onnx")

MOST_INT64 = 2**63 - 1

names = st.text("abcé.:/ _0", max_size=8)
domains = st.sampled_from(["", "ai.onnx", "com.microsoft", "ai.onnx.ml"])
sizes = st.integers(0, MOST_INT64)
element_types = st.sampled_from(sorted({*ELEMENT_TYPES} - {8}))


@st.composite
def tensors(draw):
    tensor = onnx.TensorProto(name=draw(names), data_type=draw(element_types))
    tensor.dims.extend(draw(st.lists(sizes, max_size=4)))
    kind = draw(st.sampled_from(["raw", "floats", "ints", "strings", "external", "nothing"]))
    if kind == "raw":
        tensor.raw_data = draw(st.binary(max_size=40))
    elif kind == "floats":
        tensor.float_data.extend(draw(st.lists(st.floats(width=32), max_size=4)))
    elif kind == "ints":
        tensor.int64_data.extend(draw(st.lists(st.integers(-(2**63), MOST_INT64), max_size=4)))
    elif kind == "strings":
        tensor.string_data.extend(draw(st.lists(st.binary(max_size=5), max_size=3)))
    elif kind == "external":
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=draw(names.filter(bool)))
        for key in draw(st.sets(st.sampled_from(["offset", "length"]))):
            tensor.external_data.add(key=key, value=str(draw(sizes)))
    return tensor


@st.composite
def values(draw):
    value = onnx.ValueInfoProto(name=draw(names))
    kind = draw(st.sampled_from(["tensor", "sequence", "nothing"]))
    if kind == "sequence":
        value.type.sequence_type.elem_type.tensor_type.elem_type = 1
    elif kind == "tensor":
        value.type.tensor_type.elem_type = draw(element_types)
        if draw(st.booleans()):
            value.type.tensor_type.shape.SetInParent()
            for dim in draw(st.lists(st.one_of(st.none(), sizes, names.filter(bool)), max_size=4)):
                added = value.type.tensor_type.shape.dim.add()
                if isinstance(dim, int):
                    added.dim_value = dim
                elif dim is not None:
                    added.dim_param = dim
    return value


@st.composite
def attributes(draw, depth):
    attribute = onnx.AttributeProto(name=draw(names))
    kind = draw(
        st.sampled_from(["f", "ints", "s", "t", "tensors", "sparse_tensor", *(["g", "graphs"] if depth else [])])
    )
    if kind == "f":
        attribute.f = draw(st.floats(width=32))
    elif kind == "ints":
        attribute.ints.extend(draw(st.lists(st.integers(-5, MOST_INT64), max_size=4)))
    elif kind == "s":
        attribute.s = draw(st.binary(max_size=9))
    elif kind == "t":
        attribute.t.CopyFrom(draw(tensors()))
    elif kind == "tensors":
        attribute.tensors.extend(draw(st.lists(tensors(), max_size=2)))
    elif kind == "sparse_tensor":
        attribute.sparse_tensor.values.CopyFrom(draw(tensors()))
        attribute.sparse_tensor.indices.CopyFrom(draw(tensors()))
    elif kind == "g":
        attribute.g.CopyFrom(draw(graphs(depth - 1)))
    else:
        attribute.graphs.extend(draw(st.lists(graphs(depth - 1), max_size=2)))
    return attribute


@st.composite
def nodes(draw, depth):
    node = onnx.NodeProto(op_type=draw(names), domain=draw(domains), name=draw(names), doc_string=draw(names))
    node.input.extend(draw(st.lists(names, max_size=3)))
    node.attribute.extend(draw(st.lists(attributes(depth), max_size=2, unique_by=lambda attribute: attribute.name)))
    return node


@st.composite
def graphs(draw, depth):
    graph = onnx.GraphProto(name=draw(names))
    graph.node.extend(draw(st.lists(nodes(depth), max_size=3)))
    graph.initializer.extend(draw(st.lists(tensors(), max_size=2)))
    graph.input.extend(draw(st.lists(values(), max_size=2)))
    graph.output.extend(draw(st.lists(values(), max_size=2)))
    graph.value_info.extend(draw(st.lists(values(), max_size=1)))
    return graph


@st.composite
def models(draw):
    model = onnx.ModelProto(ir_version=draw(st.integers(-(2**63), MOST_INT64)), producer_name=draw(names))
    for domain in draw(st.lists(domains, max_size=2)):
        model.opset_import.add(domain=domain, version=draw(st.integers(-1, 30)))
    model.graph.CopyFrom(draw(graphs(depth=2)))
    model.metadata_props.add(key=draw(names), value=draw(names))
    return model


def messages(message, kind):
    """Every message of a kind inside another, found by the library's own reflection."""
    if isinstance(message, kind):
        yield message
    for descriptor, value in message.ListFields():
        if descriptor.message_type is not None:
            for part in value if hasattr(value, "append") or hasattr(value, "add") else [value]:
                yield from messages(part, kind)


def data_bytes(tensor):
    """Bytes of a tensor's numbers, as they are written."""
    kept = onnx.TensorProto()
    kept.CopyFrom(tensor)
    for field in ("raw_data", "float_data", "int32_data", "int64_data", "string_data", "double_data", "uint64_data"):
        kept.ClearField(field)
    if tensor.raw_data:
        return len(tensor.raw_data)
    if tensor.string_data:
        return sum(map(len, tensor.string_data))
    if not (tensor.float_data or tensor.int64_data):
        return 0
    return tensor.ByteSize() - kept.ByteSize() - 2  # packed: one tag and one length, both short here


def as_reference(tensor):
    said = {entry.key: entry.value for entry in tensor.external_data}
    length = int(said["length"]) if "length" in said else None
    dtype = ELEMENT_TYPES[tensor.data_type]
    value = Value(tensor.name, dtype, tuple(tensor.dims))
    return ExternalReference(value, said["location"], int(said.get("offset", 0)), length)


def as_value(value):
    if not value.type.HasField("tensor_type"):
        return Value(value.name, "", None)
    tensor = value.type.tensor_type
    if not tensor.HasField("shape"):
        return Value(value.name, ELEMENT_TYPES[tensor.elem_type], None)
    dims = (dim.dim_value if dim.HasField("dim_value") else dim.dim_param or "?" for dim in tensor.shape.dim)
    return Value(value.name, ELEMENT_TYPES[tensor.elem_type], tuple(dims))


@given(model=models())
def test_it_sees_what_the_onnx_package_sees(model):
    scan = read_model(model.SerializeToString(), "m")

    nodes = Counter((node.domain, node.op) for node in scan.graph.all_nodes())
    everything = list(messages(model, onnx.TensorProto))
    initialised = {tensor.name for tensor in model.graph.initializer}
    external = [tensor for tensor in everything if tensor.data_location == onnx.TensorProto.EXTERNAL]
    assert scan.ir_version == model.ir_version
    assert scan.opsets == tuple((opset.domain, opset.version) for opset in model.opset_import)
    assert nodes == Counter((node.domain, node.op_type) for node in messages(model, onnx.NodeProto))
    assert Counter(scan.external) == Counter(map(as_reference, external))
    assert scan.inline_bytes == sum(map(data_bytes, everything))
    assert scan.inputs == tuple(as_value(value) for value in model.graph.input if value.name not in initialised)
    assert scan.outputs == tuple(map(as_value, model.graph.output))


@given(model=models(), cut=st.floats(0, 1, exclude_max=True))
def test_a_model_that_ends_early_is_refused_or_lacks_what_was_cut_off(model, cut):
    """A message may end after any field, so a cut there is no error; in the middle of one it is."""
    whole = model.SerializeToString()
    content = whole[: int(cut * len(whole))]
    try:
        onnx.ModelProto.FromString(content)
    except Exception:
        with pytest.raises(InputFileError):
            read_model(content, "m")


@given(content=st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(content):
    with suppress(InputFileError):
        read_model(content, "m")


@given(model=models(), at=st.floats(0, 1, exclude_max=True), byte=st.integers(0, 255))
def test_a_damaged_model_is_read_or_refused(model, at, byte):
    content = bytearray(model.SerializeToString())
    content[int(at * len(content))] = byte
    with suppress(InputFileError):
        read_model(bytes(content), "m")


def test_an_unknown_field_is_stepped_over():
    model = onnx.helper.make_model(onnx.helper.make_graph([], "g", [], []))
    unknown = (
        field(999, b"any") + bytes([0xC0, 0x3E, 7]) + bytes([0xC1, 0x3E]) + bytes(8) + bytes([0xC5, 0x3E]) + bytes(4)
    )

    assert read_model(model.SerializeToString() + unknown, "m") == read_model(model.SerializeToString(), "m")


def field(number, content):
    """One field of bytes."""
    return varint(number << 3 | 2) + varint(len(content)) + content


def number(number, value):
    """One field with a number."""
    return varint(number << 3) + varint(value)


def varint(value):
    low, rest = value & 0x7F, value >> 7
    return bytes([low | 0x80]) + varint(rest) if rest else bytes([low])


def model(graph=b"", rest=b""):
    return field(7, graph) + rest


def initialiser(*fields):
    return model(field(5, field(8, b"w") + b"".join(fields)))


def said(key, value):
    return field(13, field(1, key) + field(2, value))


EXTERNAL = number(14, 1)
LOCATION = said(b"location", b"weights.bin")


def nested(depth):
    graph = b""
    for _ in range(depth):
        graph = field(1, field(5, field(6, graph)))
    return model(graph)


def test_what_no_honest_writer_makes_is_refused_with_the_reason(subtests):
    for content, reason in [
        (b"", "no graph"),
        (b"PK\x03\x04 a zip", "truncated|not an ONNX model"),
        (b"\x3b", "field 7 of kind 3"),
        (b"\x06", "field 0 of kind 6"),
        (b"\x00\x00", "field 0 of kind 0"),
        (b"\x80" * 11, "longer than ten bytes"),
        (b"\xba", "the number at byte 0 is cut off where its message ends, at 1"),
        (b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\x7f", "field 7 at byte 0 reaches to byte 9223372036854775817"),
        (b"\x3a\x05abc", "field 7 at byte 0 reaches to byte 7, but its message ends at 5: truncated"),
        (model() + model(), "graph is given 2 times, expected once"),
        (number(7, 1), "field 7 at byte 1 is a number, which it cannot be"),
        (model(number(1, 1)), "graph: field 1 at byte 3 is a number"),
        (model(rest=field(25, b"")), "functions of its own"),
        (model(rest=field(20, b"")), "training information"),
        (model(field(1, field(7, b"") + field(7, b"com.microsoft"))), "domain is given 2 times"),
        (model(field(1, field(4, b"a") + field(4, b"b"))), "op_type is given 2 times"),
        (model(field(1, field(4, b"\xff"))), "op_type at byte .* is not UTF-8"),
        (model(field(1, field(4, b"x" * 5000))), "op_type has 5000 bytes, more than 4096"),
        (model(field(1, field(5, field(6, b"") * 2))), "g is given 2 times"),
        (model(field(1, field(5, field(1, b"a")) * 2)), "attributes are 'a, a'; expected each once"),
        (model(field(1, field(5, number(3, 1) + number(8, 2)))), "attribute '' has 2 values, expected one"),
        (
            model(field(13, field(2, field(1, field(2, field(1, field(1, b""))))))),
            "dimension: field 1 at byte .* is a s",
        ),
        (model(field(1, field(5, b"") * 1025)), "field 5 is given more than 1024 times"),
        (model(rest=field(8, number(2, 1) * 2)), "version is given 2 times"),
        (nested(8), "nested more than 8 deep"),
        (model(field(11, b"") * 4097), "more than 4096 inputs or outputs"),
        (model(field(11, field(2, field(1, field(2, field(1, b"") * 33))))), "33 dimensions, more than 32"),
        (model(field(11, field(2, field(1, field(2, field(1, number(1, 5) + field(2, b"N"))))))), "size and a name"),
        (initialiser(EXTERNAL), "does not say clearly"),
        (initialiser(LOCATION), "does not say clearly"),
        (initialiser(EXTERNAL, LOCATION, field(9, b"1234")), "does not say clearly"),
        (initialiser(EXTERNAL, LOCATION, number(7, 1)), "does not say clearly"),
        (initialiser(EXTERNAL, number(14, 0), LOCATION), "data_location is given 2 times"),
        (initialiser(EXTERNAL, LOCATION, LOCATION), "expected location, offset and length, each once"),
        (initialiser(EXTERNAL, said(b"offset", b"1")), "expected location, offset and length, each once"),
        (initialiser(EXTERNAL, LOCATION, said(b"basepath", b"/")), "expected location, offset and length, each once"),
        (initialiser(EXTERNAL, LOCATION, said(b"offset", b"-1")), "offset '-1' is no whole number"),
        (initialiser(EXTERNAL, LOCATION, said(b"length", b" 4")), "length ' 4' is no whole number"),
        (initialiser(EXTERNAL, LOCATION, said(b"length", b"9" * 20)), "is no whole number"),
        (initialiser(EXTERNAL, LOCATION, said(b"length", "٣".encode())), "is no whole number"),
        (initialiser(EXTERNAL, LOCATION, number(1, 1) * 33), "more than 32 dimensions"),
        (initialiser(EXTERNAL, LOCATION, field(1, b"\x01" * 33)), "more than 32 dimensions"),
        (initialiser(EXTERNAL, LOCATION, field(1, b"\x80")), "dims: the number at byte .* is cut off"),
    ]:
        with subtests.test(reason):
            with pytest.raises(InputFileError, match=reason) as refusal:
                read_model(content, "net.onnx")

            assert str(refusal.value).startswith("net.onnx: ")


def test_a_file_of_tiny_fields_does_not_keep_us_for_hours(monkeypatch):
    monkeypatch.setattr(protobuf, "MAX_FIELDS", 1000)

    with pytest.raises(InputFileError, match="more than 1000 fields"):
        read_model(model(field(1, b"") * 1001), "m")


def test_graphs_may_lie_seven_deep_in_the_outermost():
    assert len([*read_model(nested(7), "m").graph.all_nodes()]) == 7


def test_dimensions_are_read_packed_and_one_by_one():
    one_by_one = read_model(initialiser(EXTERNAL, LOCATION, number(1, 300), number(1, 2)), "m")
    packed = read_model(initialiser(EXTERNAL, LOCATION, field(1, varint(300) + varint(2))), "m")

    assert one_by_one == packed
    assert packed.external[0].value.shape == (300, 2)


# The graphs of bundles.


@pytest.fixture(scope="module", params=["running", "source", "batch"])
def bundled(request, tiny):
    """Each graph of a bundle, read by us and by the `onnx` package."""
    bundle = read_bundle(tiny.bundle(request.param))
    contents = [bundle.graph(graph.name) for graph in bundle.manifest.graphs]
    return [(read_model(content, "m").graph, onnx.load_model_from_string(content).graph) for content in contents]


def pairs(ours, theirs):
    """Graphs beside each other, those in attributes too."""
    yield ours, theirs
    for node, other in zip(ours.nodes, theirs.node, strict=True):
        for attribute in other.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from pairs(dict(node.graphs)[attribute.name], attribute.g)


def test_nodes_are_those_that_onnx_reads(bundled):
    for ours, theirs in bundled:
        for graph, other in pairs(ours, theirs):
            found = [(node.op, node.domain, node.name, node.inputs, node.outputs) for node in graph.nodes]
            expected = [(n.op_type, n.domain, n.name, tuple(n.input), tuple(n.output)) for n in other.node]
            assert found == expected


def test_attributes_are_those_that_onnx_reads(bundled):
    kinds = {onnx.AttributeProto.INT, onnx.AttributeProto.INTS, onnx.AttributeProto.STRING}
    for ours, theirs in bundled:
        for graph, other in pairs(ours, theirs):
            for node, their_node in zip(graph.nodes, other.node, strict=True):
                for attribute in their_node.attribute:
                    if attribute.type in kinds:
                        value = onnx.helper.get_attribute_value(attribute)
                        value = tuple(value) if isinstance(value, list) else value
                        value = value.decode() if isinstance(value, bytes) else value
                        assert node.attributes[attribute.name] == value


def test_shapes_and_weights_are_those_that_onnx_reads(bundled):
    for ours, theirs in bundled:
        for graph, other in pairs(ours, theirs):
            shapes = {
                info.name: tuple(d.dim_value for d in info.type.tensor_type.shape.dim)
                for info in [*other.value_info, *other.input, *other.output]
            }
            assert {name: value.sizes for name, value in graph.values.items()} == shapes
            weights = {w.name: (tuple(w.dims), w.data_location == onnx.TensorProto.EXTERNAL) for w in other.initializer}
            assert {name: (w.value.sizes, w.external) for name, w in graph.initializers.items()} == weights
            assert graph.outputs == tuple(info.name for info in other.output)


def test_a_dimension_that_is_only_named_makes_the_shape_unknown():
    info = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["N", 3])
    model = onnx.helper.make_model(
        onnx.helper.make_graph([onnx.helper.make_node("Relu", ["x"], ["y"])], "g", [info], [])
    )

    assert read_model(model.SerializeToString(), "m").graph.values["x"].sizes is None


def test_a_negative_attribute_keeps_its_sign():
    node = onnx.helper.make_node("Softmax", ["x"], ["y"], axis=-1)
    model = onnx.helper.make_model(onnx.helper.make_graph([node], "g", [], []))

    assert read_model(model.SerializeToString(), "m").graph.nodes[0].attributes["axis"] == -1


def test_an_elements_size_is_that_of_its_type(subtests):
    for kind, size in [("FLOAT", 4), ("INT64", 8), ("BOOL", 1), ("FLOAT16", 2), ("UINT8", 1), ("DOUBLE", 8)]:
        with subtests.test(kind=kind):
            info = onnx.helper.make_tensor_value_info("x", getattr(onnx.TensorProto, kind), [2, 3])
            model = onnx.helper.make_model(onnx.helper.make_graph([], "g", [info], []))

            assert read_model(model.SerializeToString(), "m").graph.values["x"].bytes == 6 * size
