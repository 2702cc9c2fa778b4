"""Graphs that would loop, trap or take all memory: each is refused before onnxruntime sees it."""

import ast
from pathlib import Path

import numpy as np
import pytest

from ecotta_rt.bundle import read_bundle
from ecotta_rt.bundle.fixing import allows_constants
from ecotta_rt.bundle.operators import MAX_NODES, OPERATORS
from ecotta_rt.errors import InputFileError
from ecotta_rt.files.onnx_reader import read_model

onnx = pytest.importorskip("onnx")
helper, INT64, FLOAT = onnx.helper, onnx.TensorProto.INT64, onnx.TensorProto.FLOAT

INT64_MIN = -(2**63)
ONLY_IN_HOSTILE = {"ReduceL1", "ReduceMax"}  # in bundles of older versions, which stay readable
ONLY_READ = {"Flatten", "Squeeze"}  # looked for, and never written


@pytest.fixture
def graph(parts):
    return onnx.ModelProto.FromString(parts.members["graphs/step-2.onnx"])


def refused(parts, graph, reason):
    parts.replace_graph("step-2", graph.SerializeToString())
    parts.manifest["graphs"][1]["nodes"] = min(count(graph.graph), 1 << 16)
    with pytest.raises(InputFileError, match=f"graphs/step-2.onnx: .*{reason}"):
        read_bundle(parts.pack()).graph("step-2")


def count(graph):
    nested = [attribute.g for node in graph.node for attribute in node.attribute if attribute.HasField("g")]
    return len(graph.node) + sum(map(count, nested))


def constant(graph, name, numbers, kind=INT64):
    graph.graph.initializer.append(helper.make_tensor(name, kind, [len(numbers)], numbers))


def add(graph, op, inputs, output, **attributes):
    graph.graph.node.append(helper.make_node(op, inputs, [output], **attributes))


def value(graph, name, kind, shape=(1,)):
    graph.graph.value_info.append(helper.make_tensor_value_info(name, kind, shape))


def nested(name, *nodes):
    return helper.make_graph(list(nodes), name, [], [helper.make_tensor_value_info("x", FLOAT, [1])])


def branches():
    return {f"{name}_branch": nested(name, helper.make_node("Neg", ["logits"], ["x"])) for name in ("then", "else")}


def test_a_division_of_whole_numbers_that_the_processor_traps_is_refused(parts, graph):
    """Constants are divided while a graph is loaded: INT64_MIN by -1 ended the process with SIGFPE."""
    constant(graph, "least", [INT64_MIN])
    constant(graph, "minus", [-1])
    add(graph, "Div", ["least", "minus"], "quotient")

    refused(parts, graph, "Div 'quotient' depends on constants alone")


@pytest.mark.parametrize("said", [None, INT64, onnx.TensorProto.INT32])
def test_a_division_of_whole_numbers_at_run_time_is_refused(parts, graph, said):
    constant(graph, "minus", [-1])
    add(graph, "Cast", ["best"], "whole", to=INT64)
    add(graph, "Div", ["whole", "minus"], "quotient")
    if said is not None:
        value(graph, "quotient", said)

    refused(parts, graph, "Div 'quotient' is .*; only float32 may be divided")


def test_onnxruntime_refuses_a_graph_that_lies_about_the_type_of_a_division(parts, graph):
    """What the rule above rests on."""
    ort = pytest.importorskip("onnxruntime")
    constant(graph, "minus", [-1])
    add(graph, "Cast", ["best"], "whole", to=INT64)
    add(graph, "Div", ["whole", "minus"], "quotient")
    value(graph, "quotient", FLOAT, (2,))
    for tensor in graph.graph.initializer[:2]:
        tensor.CopyFrom(onnx.numpy_helper.from_array(np.zeros(tuple(tensor.dims), np.float32), tensor.name))

    with pytest.raises(Exception, match="does not match expected type"):
        ort.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])


@pytest.mark.parametrize(
    "op",
    ["Loop", "Scan", "Mod", "Range", "ConstantOfShape", "Tile", "Resize", "Constant", "Shape", "Dropout", "Einsum", ""],
)
def test_operators_that_the_exporter_never_writes_are_refused(parts, graph, op):
    add(graph, op, ["logits"], "x")

    refused(parts, graph, f"operator '{op}' is none that a bundle's graphs use")


def test_a_loop_of_as_many_rounds_as_there_are_numbers_is_refused(parts, graph):
    constant(graph, "rounds", [2**62])
    add(graph, "Loop", ["rounds", "", "logits"], "x", body=nested("body", helper.make_node("Neg", ["logits"], ["x"])))

    refused(parts, graph, "operator 'Loop' is none")


def test_six_hundred_thousand_empty_nodes_are_refused(parts, graph):
    del graph.graph.node[:]
    for _ in range(MAX_NODES + 1):
        graph.graph.node.add()
    content = graph.SerializeToString()

    assert len(content) < 50_000
    refused(parts, graph, f"{MAX_NODES + 1} nodes; .* at most {MAX_NODES}")


@pytest.mark.parametrize("part", ["initializer", "value_info", "sparse_initializer", "quantization_annotation"])
def test_more_of_anything_than_so_many_nodes_have_is_refused(parts, graph, part):
    for _ in range(2000):
        getattr(graph.graph, part).add()

    refused(parts, graph, r"\d+ nodes, constants and values; a graph of 18 nodes has at most")


def test_long_names_are_refused_where_there_are_few_nodes(parts, graph):
    for number in range(30):
        value(graph, f"{number}" + "x" * 4000, FLOAT)

    refused(parts, graph, r"\d+ bytes beside its constants; a graph of 18 nodes has at most 83968")


@pytest.mark.parametrize(
    ("name", "number", "expected"),
    [
        *(
            (name, number, "1 to 16777216")
            for name in ("strides", "dilations", "kernel_shape")
            for number in ([0], [-1])
        ),
        *(("group", number, "1 to 16777216") for number in (0, -1, 2**62)),
        ("pads", [2**40], "-16777216 to 16777216"),
        ("num_outputs", 0, "1 to 16777216"),
        ("axis", INT64_MIN, "-16777216 to 16777216"),
    ],
)
def test_attributes_that_no_operator_can_have_are_refused(parts, graph, name, number, expected):
    graph.graph.node[0].attribute.append(helper.make_attribute(name, number))

    refused(parts, graph, f"Conv 'picked': {name} .*, expected {expected}")


def test_a_result_of_constants_in_a_branch_is_refused(parts, graph):
    """Constants of the graph around it are constants there too."""
    constant(graph, "outer", [1.0], FLOAT)
    given = branches()
    given["then_branch"] = nested("then", helper.make_node("Neg", ["outer"], ["x"]))
    add(graph, "If", ["moved"], "x", **given)

    refused(parts, graph, "Neg 'x' depends on constants alone")


def test_only_a_step_of_one_frame_may_leave_its_backward_pass_out(parts, graph):
    add(graph, "If", ["moved"], "x", **branches())

    refused(parts, graph, "an If in the step graph of 2 frames")


@pytest.mark.parametrize("chained", [False, True])
def test_no_constant_is_copied_again_and_again_while_a_graph_is_loaded(parts, chained):
    """60 Reshape of one constant of 4 MiB took 250 MiB at load, where no ceiling holds."""
    model = onnx.ModelProto.FromString(parts.members["graphs/predict-2.onnx"])
    constant(model, "all", [-1])
    for place in range(60):
        source = f"copy_{place - 1}" if chained and place else "scale"
        model.graph.node.append(helper.make_node("Reshape", [source, "all"], [f"copy_{place}"]))
    graph = read_model(model.SerializeToString(), "graph")

    assert allows_constants(read_model(parts.members["graphs/predict-2.onnx"], "graph"), ["parameters"])
    assert not allows_constants(graph, ["parameters"])


@pytest.mark.parametrize("kind", ["two", "nested", "other operator", "without"])
def test_no_other_nested_graphs_are_let_in(parts, graph, kind):
    if kind == "two":
        add(graph, "If", ["moved"], "x", **branches())
        add(graph, "If", ["moved"], "y", **branches())
    elif kind == "nested":
        inner = helper.make_node("If", ["moved"], ["x"], **branches())
        add(graph, "If", ["moved"], "x", then_branch=nested("then", inner), else_branch=branches()["else_branch"])
    elif kind == "other operator":
        add(graph, "Neg", ["logits"], "x", **branches())
    else:
        add(graph, "If", ["moved"], "x")

    refused(parts, graph, "expected none, or one If with its two branches")


@pytest.mark.parametrize("normalisation", ["batch", "running", "source"])
def test_every_graph_that_the_exporter_writes_is_let_in(tiny, normalisation):
    bundle = read_bundle(tiny.bundle(normalisation))

    for entry in bundle.manifest.graphs:
        assert bundle.graph(entry.name)


def test_the_list_of_operators_is_what_rules_and_passes_write(checkout):
    """A new rule has to add its operators to `OPERATORS`; with the last rule that writes one it leaves the list."""
    known = {schema.name for schema in onnx.defs.get_all_schemas() if schema.domain == ""}
    written = set()
    for path in sorted((checkout / "ecotta_rt" / "exporter").rglob("*.py")):
        for text in texts(path):
            words = text.split()
            if words and known.issuperset(words):
                written.update(words)

    assert written - ONLY_READ == OPERATORS - ONLY_IN_HOSTILE


def test_the_format_lists_the_operators(checkout):
    page = " ".join((checkout / "docs" / "bundle-format.md").read_text(encoding="utf-8").split())

    assert ", ".join(sorted(OPERATORS)) in page


def texts(path: Path):
    """The string constants of a module that are no docstrings."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    alone = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in alone:
            yield node.value
