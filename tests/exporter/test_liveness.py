"""Bytes of tensors counted by hand; and that onnxruntime really recomputes when the count says so."""

import json

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest

from ecotta_rt.exporter.builder import RECOMPUTED, GraphBuilder
from ecotta_rt.exporter.export import build_graph
from ecotta_rt.exporter.liveness import infer_shapes, live_bytes
from ecotta_rt.exporter.request import GraphRequest
from ecotta_rt.method.state import initial_state

FLOAT = ir.DataType.FLOAT


def counted(builder, outputs):
    model = builder.finish(outputs, "g")
    infer_shapes(model)
    return live_bytes(model)


def test_a_tensor_lives_from_its_node_to_the_last_that_reads_it():
    g = GraphBuilder()
    x = g.input("x", FLOAT, [100])
    a = g.op("Neg", x)  # 400 bytes, read until the end
    b = g.op("Concat", a, a, axis=0)  # 800 bytes
    c = g.op("ReduceSum", b, g.ints(0), keepdims=1)  # 4 bytes
    d = g.op("Mul", a, c)  # an output: the caller's

    found = counted(g, [("y", d)])

    assert found.by_node == (400, 400 + 800, 400 + 800 + 4, 400 + 4)
    assert (found.peak_bytes, found.peak_node) == (1204, 2)
    assert [(t.op_type, t.shape, t.size_bytes, t.born, t.dies) for t in found.tenants] == [
        ("Concat", (200,), 800, 1, 2),
        ("Neg", (100,), 400, 0, 3),
        ("ReduceSum", (1,), 4, 2, 3),
    ]


def test_a_tensor_of_another_shape_shares_the_memory_of_the_first():
    g = GraphBuilder()
    a = g.op("Neg", g.input("x", FLOAT, [6]))  # 24 bytes, alive as long as its other shapes
    b = g.op("Unsqueeze", g.op("Reshape", a, g.ints(2, 3)), g.ints(0))
    c = g.op("Exp", b)  # 24 bytes

    found = counted(g, [("y", g.op("Neg", c))])

    assert found.by_node == (24, 24, 24, 48, 24)


def test_bytes_follow_the_type():
    g = GraphBuilder()
    mask = g.op("Greater", g.input("x", FLOAT, [100]), g.scalar(0))
    sign = g.op("Cast", mask, to=ir.DataType.INT8.value)
    wide = g.op("Cast", sign, to=ir.DataType.DOUBLE.value)

    found = counted(g, [("y", g.op("Cast", wide, to=FLOAT.value))])

    assert found.by_node == (100, 200, 900, 800)


def test_a_result_that_nobody_reads_lives_while_its_node_runs():
    g = GraphBuilder()
    a, _ = g.ops("Split", 2, g.input("x", FLOAT, [30]), g.ints(10, 20), axis=0)

    found = counted(g, [("y", g.op("Neg", a))])

    assert found.by_node == (120, 40)


def test_weights_inputs_and_outputs_belong_to_others():
    g = GraphBuilder()
    x = g.input("x", FLOAT, [1000])

    found = counted(g, [("y", g.op("Add", x, g.constant(np.ones(1000, np.float32))))])

    assert (found.peak_bytes, found.tenants) == (0, ())


def test_an_empty_graph_needs_nothing():
    found = live_bytes(ir.Model(ir.Graph([], [], nodes=[]), ir_version=10))

    assert (found.by_node, found.peak_bytes, found.activation_bytes) == ((), 0, 0)


def small_step(recompute):
    """Forward a, b, c, logits; the backward reads b and c; b is kept, or made again from a once the gradient is there.

    a: 100 numbers, kept only for the recomputation. b: 200 numbers. c: one bool for each of b's numbers.
    """
    g = GraphBuilder()
    x = g.input("x", FLOAT, [100])
    a = g.op("Neg", x)
    b = g.op("Concat", a, a, axis=0)
    c = g.op("Greater", b, g.scalar(0))
    logits = g.op("ReduceSum", b, g.ints(0), keepdims=1)
    gradient = g.op("Mul", logits, g.scalar(2))
    masked = g.op("Where", c, gradient, g.scalar(0))
    again = b
    if recompute:
        held = g.op("Reshape", a, g.op("Add", g.ints(100), g.op("Cast", g.op("Mul", gradient, g.scalar(0)), to=7)))
        held.shape, held.type = ir.Shape([100]), ir.TensorType(FLOAT)  # inference cannot see through it, on purpose
        held.producer().metadata_props[RECOMPUTED] = "1"
        again = g.op("Concat", held, held, axis=0)
    return counted(g, [("logits", logits), ("y", g.op("Mul", masked, again))])


def test_what_is_kept_is_what_a_later_backward_node_reads():
    """B and its mask: 800 + 200 bytes. The masked gradient, 800 more, is the backward's own."""
    found = small_step(recompute=False)

    assert found.activation_bytes == 800 + 200
    assert found.peak_bytes == 800 + 200 + 4 + 800


def test_a_recomputed_tensor_counts_from_when_it_is_made_again_and_what_it_is_made_of_until_then():
    """A and the mask while the first is needed, a and b while b is made anew: the mask has been read by then."""
    found = small_step(recompute=True)

    assert found.activation_bytes == 400 + 800
    assert found.by_node[-1] == 800 + 800, "at the end only the masked gradient and b are left"


def test_a_graph_without_a_backward_keeps_nothing():
    g = GraphBuilder()
    a = g.op("Neg", g.input("x", FLOAT, [100]))

    assert counted(g, [("logits", g.op("Exp", a))]).activation_bytes == 0


# The real thing


@pytest.fixture(scope="module")
def batch_step(tiny):
    """A step in which a frozen segment is computed a second time."""
    network = tiny.network()
    return build_graph(network, initial_state(network), tiny.options("batch"), GraphRequest("step", "step", 4))


def test_every_tensor_of_a_step_has_a_known_size(batch_step):
    """One of unknown size would count as nothing."""
    values = [value for node in batch_step.graph for value in node.outputs]

    assert not [v.name for v in values if v.dtype is None or v.shape is None or v.shape.is_dynamic()]


def first_feeds(model, tiny):
    """Frames, and ones for parameters and momentum."""
    shapes = {value.name: [int(n) for n in value.shape] for value in model.graph.inputs}
    return {name: tiny.floats() if name == "frames" else np.ones(shape, np.float32) for name, shape in shapes.items()}


def nodes_as_they_ran(model, feeds, level, folder):
    """(name, operator) in the order of time, after onnxruntime's optimisers."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = level
    options.execution_order = onnxruntime.ExecutionOrder.PRIORITY_BASED
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    options.enable_profiling = True
    options.profile_file_prefix = str(folder / "profile")
    content = ir.to_proto(model).SerializeToString()
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    session.run(None, feeds)
    with open(session.end_profiling(), encoding="utf-8") as file:
        events = [event for event in json.load(file) if event.get("cat") == "Node"]
    events = sorted((e for e in events if e["name"].endswith("_kernel_time")), key=lambda event: event["ts"])
    return [(event["name"].removesuffix("_kernel_time"), event["args"]["op_name"]) for event in events]


@pytest.mark.parametrize("level", ["ORT_ENABLE_EXTENDED", "ORT_ENABLE_ALL"])
def test_a_stretch_is_recomputed_only_when_its_gradient_is_there(batch_step, tiny, tmp_path, level):
    held = [node for node in batch_step.graph if RECOMPUTED in node.metadata_props]
    assert held, "nothing is recomputed: nothing is tested"

    ran = nodes_as_they_ran(
        batch_step,
        first_feeds(batch_step, tiny),
        getattr(onnxruntime.GraphOptimizationLevel, level),
        tmp_path,
    )

    when = {name: place for place, (name, _) in enumerate(ran)}
    makers = {value.name: value.producer() for node in batch_step.graph for value in node.outputs}
    for node in held:
        readers = [reader.name for reader in node.outputs[0].consumers() if reader.name in when]
        source = makers[node.inputs[1].name]  # Add(Size(gradient), what makes it the shape)
        while source.op_type != "Size":
            source = next(maker for maker in (makers.get(v.name) for v in source.inputs) if maker is not None)
        gradient = source.inputs[0].producer()
        assert readers
        assert when[gradient.name] < when[node.name] < min(when[name] for name in readers)


@pytest.mark.parametrize(
    "op_types",
    [("ReduceMean",), ("Conv", "ConvTranspose", "FusedConv")],
    ids=["moments of frozen norms", "convolutions of meta groups"],
)
def test_no_optimiser_merges_the_second_computation_with_the_first(batch_step, tiny, tmp_path, op_types):
    """Both read a held tensor; were it seen through, their nodes would be common subexpressions."""

    def count(level):
        ran = nodes_as_they_ran(batch_step, first_feeds(batch_step, tiny), level, tmp_path)
        return sum(op_type in op_types for _, op_type in ran)

    levels = onnxruntime.GraphOptimizationLevel
    written = sum(node.op_type in op_types for node in batch_step.graph)
    assert count(levels.ORT_DISABLE_ALL) == written
    assert count(levels.ORT_ENABLE_EXTENDED) == written
