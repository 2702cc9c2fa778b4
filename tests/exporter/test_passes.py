"""Each pass on a small graph: what it changes and leaves alone, and that onnxruntime computes the same after it."""

import copy

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from onnx_ir.passes.common import TopologicalSortPass

from ecotta_rt.bundle import StateLayout
from ecotta_rt.exporter.builder import MASK_DOMAIN, GraphBuilder
from ecotta_rt.exporter.export import PASSES, build_graph
from ecotta_rt.exporter.liveness import infer_shapes
from ecotta_rt.exporter.passes.fold_constants import fold_constants
from ecotta_rt.exporter.passes.join_splits import join_splits
from ecotta_rt.exporter.passes.keep_weights_once import HEAVY, keep_weights_once
from ecotta_rt.exporter.passes.masks import choose_masks
from ecotta_rt.exporter.passes.skip_backward import skip_backward
from ecotta_rt.exporter.passes.stack_scales import stack_scales
from ecotta_rt.exporter.request import GraphRequest
from ecotta_rt.method.state import initial_state, to_adapt_state

FLOAT = ir.DataType.FLOAT
PLAIN = {"strides": [1, 1], "pads": [1, 1, 1, 1], "dilations": [1, 1], "group": 1}


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def run(model, **feeds):
    """Its outputs, every node computed as it is written."""
    proto = ir.to_proto(model)
    onnx.checker.check_model(proto, full_check=True)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, feeds)


def op_types(model):
    return [node.op_type for node in model.graph]


def conv(g, x, weight, op_type="Conv", **changes):
    sides = list(weight.shape[2:])
    return g.op(op_type, x, g.constant(weight), kernel_shape=sides, **{**PLAIN, **changes})


def rewritten(model, rewrite, **feeds):
    """The model after a pass, which has been found to compute the same, and to be written in an order that runs."""
    infer_shapes(model)
    before = run(model, **feeds)

    rewrite(model)

    for found, expected in zip(run(model, **feeds), before, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)  # sums of up to 288 products
    once = copy.deepcopy(op_types(model))
    rewrite(model)
    assert op_types(model) == once, "a second run finds nothing more to do"
    assert not TopologicalSortPass()(model).modified
    return model


# Constants


def test_what_depends_on_constants_alone_is_computed():
    g = GraphBuilder()
    x = g.input("x", FLOAT, [3])
    scale = g.op("Sqrt", g.op("Add", g.constant([1, 2, 3], np.float32), g.scalar(1)))

    model = rewritten(g.finish([("y", g.op("Mul", x, scale))], "g"), fold_constants, x=normal(3))

    assert op_types(model) == ["Mul"]
    assert [value.name for value in model.graph.initializers.values()] == [model.graph[0].inputs[1].name]


def test_a_constant_with_several_results_is_computed():
    g = GraphBuilder()
    first, second = g.ops("Split", 2, g.constant(normal(5)), g.ints(2, 3), axis=0)

    outputs = [("y", g.op("Add", g.input("x", FLOAT, [2]), first)), ("z", second)]
    model = rewritten(g.finish(outputs, "g"), fold_constants, x=normal(2))

    assert sorted(op_types(model)) == ["Add", "Identity"]  # an output needs a node to carry its name


def test_what_would_be_large_to_keep_is_made_anew():
    g = GraphBuilder()
    wide = g.op("Expand", g.scalar(2), g.ints(1 << 9, 1 << 8))

    model = rewritten(
        g.finish([("y", g.op("Mul", g.input("x", FLOAT, [1 << 8]), wide))], "g"), fold_constants, x=normal(1 << 8)
    )

    assert op_types(model) == ["Expand", "Mul"]


def test_a_large_constant_may_be_turned_into_one_of_its_size():
    g = GraphBuilder()
    turned = g.op("Transpose", g.constant(normal(1 << 9, 1 << 8)), perm=[1, 0])

    model = rewritten(
        g.finish([("y", g.op("Mul", g.input("x", FLOAT, [1 << 9]), turned))], "g"), fold_constants, x=normal(1 << 9)
    )

    assert op_types(model) == ["Mul"]


# Splits


def split_and_join(order, *, reshape=True, join_axis=0, keep=3):
    """A vector of 12 in pieces of 4, 6 and 2, used each, and joined in `order`."""
    g = GraphBuilder()
    whole = g.input("x", FLOAT, [12])
    pieces = list(g.ops("Split", 3, whole, g.ints(4, 6, 2), axis=0))
    used = g.op("Reshape", pieces[1], g.ints(2, 3))
    if reshape:
        pieces[1] = g.op("Reshape", used, g.ints(6))
    joined = g.op("Concat", *[pieces[i] for i in order[:keep]], axis=join_axis)
    return g.finish([("used", g.op("Neg", used)), ("y", g.op("Mul", joined, g.scalar(2)))], "g")


@pytest.mark.parametrize("reshape", [True, False])
def test_a_split_that_is_joined_again_is_the_whole(reshape):
    model = rewritten(split_and_join([0, 1, 2], reshape=reshape), join_splits, x=normal(12))

    assert op_types(model) == ["Split", "Reshape", "Neg", "Mul"]
    assert model.graph[-1].inputs[0] is model.graph.inputs[0]


@pytest.mark.parametrize(("order", "keep"), [([0, 2, 1], 3), ([0, 1, 2], 2), ([0, 0, 2], 3)])
def test_another_order_or_a_piece_too_few_is_left_alone(order, keep):
    model = rewritten(split_and_join(order, keep=keep), join_splits, x=normal(12))

    assert "Concat" in op_types(model)


def test_pieces_joined_to_a_matrix_are_left_alone():
    g = GraphBuilder()
    pieces = g.ops("Split", 2, g.input("x", FLOAT, [12]), g.ints(6, 6), axis=0)
    rows = [g.op("Reshape", piece, g.ints(1, 6)) for piece in pieces]

    model = rewritten(g.finish([("y", g.op("Concat", *rows, axis=0))], "g"), join_splits, x=normal(12))

    assert "Concat" in op_types(model)
    assert run(model, x=normal(12))[0].shape == (2, 6)


def test_a_join_that_is_an_output_keeps_its_name():
    g = GraphBuilder()
    whole = g.op("Neg", g.input("x", FLOAT, [4]))
    pieces = g.ops("Split", 2, whole, g.ints(1, 3), axis=0)

    model = rewritten(g.finish([("y", g.op("Concat", *pieces, axis=0))], "g"), join_splits, x=normal(4))

    assert op_types(model) == ["Neg"]
    assert [value.name for value in model.graph.outputs] == ["y"]


# Masks


def mask(g, x, low, high):
    packed = g.op("Pack", x, domain=MASK_DOMAIN, low=float(low), high=float(high))
    return g.op("Unpack", packed, domain=MASK_DOMAIN, shape=[2, 3])


def chosen(outputs, builder, **feeds):
    model = builder.finish(outputs, "g")
    choose_masks(model)
    assert {node.domain for node in model.graph} == {""}
    assert list(model.graph.opset_imports) == [""]
    infer_shapes(model)
    return model, run(model, **feeds)


X = np.array([[-1, 0, 1e-30], [5.9, 6, 7]], np.float32)
G = np.array([[1, 2, 3], [4, 5, 6]], np.float32)


@pytest.mark.parametrize(
    ("low", "high", "passes"),
    [
        (0, np.inf, [[0, 0, 1], [1, 1, 1]]),  # ReLU: zero itself does not pass
        (0, 6, [[0, 0, 1], [1, 0, 0]]),  # ReLU6: neither bound passes
        (-np.inf, 0, [[1, 0, 0], [0, 0, 0]]),
    ],
)
def test_a_mask_lets_the_gradient_through_strictly_between_its_bounds(low, high, passes):
    g = GraphBuilder()
    x, gradient = g.input("x", FLOAT, [2, 3]), g.input("g", FLOAT, [2, 3])

    _, (found,) = chosen([("y", g.op("Mul", mask(g, x, low, high), gradient))], g, x=X, g=G)

    np.testing.assert_array_equal(found, G * np.array(passes, np.float32))


def test_a_mask_that_meets_a_gradient_becomes_a_choice_and_stays_a_bool_until_then():
    g = GraphBuilder()
    x, gradient = g.input("x", FLOAT, [2, 3]), g.input("g", FLOAT, [2, 3])
    model, _ = chosen([("y", g.op("Mul", gradient, mask(g, x, 0, np.inf)))], g, x=X, g=G)

    assert op_types(model) == ["Greater", "Where"]
    assert model.graph[0].outputs[0].dtype == ir.DataType.BOOL


def test_a_mask_read_twice_is_made_once():
    g = GraphBuilder()
    x, gradient = g.input("x", FLOAT, [2, 3]), g.input("g", FLOAT, [2, 3])
    packed = g.op("Pack", x, domain=MASK_DOMAIN, low=0.0, high=float("inf"))
    masks = [g.op("Unpack", packed, domain=MASK_DOMAIN, shape=[2, 3]) for _ in range(2)]
    outputs = [("y", g.op("Mul", masks[0], gradient)), ("z", g.op("Mul", masks[1], g.op("Neg", gradient)))]

    model, (y, z) = chosen(outputs, g, x=X, g=G)

    assert op_types(model).count("Greater") == 1
    np.testing.assert_array_equal(y, -z)


def test_a_mask_used_for_something_else_is_zeros_and_ones():
    g = GraphBuilder()
    x = g.input("x", FLOAT, [2, 3])

    model, (found,) = chosen([("y", g.op("Exp", mask(g, x, 0, 6)))], g, x=X)

    assert op_types(model) == ["Greater", "Less", "And", "Cast", "Exp"]
    np.testing.assert_allclose(found, np.exp([[0, 0, 1], [1, 0, 0]]), rtol=1e-6)


def test_above_less_below_is_a_sign_of_one_byte():
    g = GraphBuilder()
    x, gradient = g.input("x", FLOAT, [2, 3]), g.input("g", FLOAT, [])
    sign = g.op("Sub", mask(g, x, 0, np.inf), mask(g, x, -np.inf, 0))

    model, (found,) = chosen(
        [("y", g.op("Mul", sign, gradient))], g, x=X - np.float32(1e-30), g=np.array(2, np.float32)
    )

    assert op_types(model) == ["Sign", "Cast", "Cast", "Mul"]
    assert model.graph[1].outputs[0].dtype == ir.DataType.INT8
    np.testing.assert_array_equal(found, [[-2, -2, 0], [2, 2, 2]])


def sign_that_joins(reads_sign_again=False):
    """Other + sign(x) * scale, as the gradient of an L1 term joins that of the features; x is [2, 3]."""
    g = GraphBuilder()
    x, scale = g.input("x", FLOAT, [2, 3]), g.input("g", FLOAT, [])
    sign = g.op("Sub", mask(g, x, 0, np.inf), mask(g, x, -np.inf, 0))
    other = g.op("Exp", x)
    scaled = g.op("Mul", sign, scale)
    for value in (scaled, other):
        value.shape, value.type = ir.Shape([2, 3]), ir.TensorType(FLOAT)  # as lowering notes them
    outputs = [("y", g.op("Add", other, scaled)), *([("z", g.op("Neg", sign))] if reads_sign_again else [])]
    return chosen(outputs, g, x=X, g=np.array(2, np.float32))


def test_a_sign_that_joins_another_gradient_stays_a_byte_until_that_is_there():
    model, (found,) = sign_that_joins()

    assert op_types(model) == ["Sign", "Cast", "Exp", "Size", "Add", "Reshape", "Cast", "Mul", "Add"]
    held = model.graph[5]
    assert held.inputs[0].dtype == ir.DataType.INT8
    assert model.graph[3].inputs[0] is model.graph[2].outputs[0], "held until the other gradient is there"
    np.testing.assert_allclose(found, np.exp(X) + 2 * np.sign(X), rtol=1e-6)


def test_a_sign_that_others_read_too_is_made_for_them():
    _, (joined, negated) = sign_that_joins(reads_sign_again=True)

    np.testing.assert_allclose(joined, np.exp(X) + 2 * np.sign(X), rtol=1e-6)
    np.testing.assert_array_equal(negated, -np.sign(X))


def test_a_difference_of_masks_of_two_tensors_is_no_sign():
    g = GraphBuilder()
    x, other = g.input("x", FLOAT, [2, 3]), g.input("other", FLOAT, [2, 3])
    difference = g.op("Sub", mask(g, x, 0, np.inf), mask(g, other, -np.inf, 0))

    model, (found,) = chosen([("y", difference)], g, x=X, other=-X)

    assert "Sign" not in op_types(model)
    np.testing.assert_array_equal(found, (X > 0).astype(np.float32) - (-X < 0))


# Scales of norms


def scale_of(g, variance, weight, eps=1e-5, channels=3):
    inverse = g.op("Reciprocal", g.op("Sqrt", g.op("Add", variance, g.scalar(eps))))
    return g.op("Reshape", g.op("Mul", inverse, g.constant(weight)), g.ints(1, channels, 1, 1))


def norms(eps=(1e-5, 1e-5, 1e-5)):
    """Gradients of three norms, whose variances come in one vector."""
    g = GraphBuilder()
    variances = g.ops("Split", 3, g.input("v", FLOAT, [9]), g.ints(3, 3, 3), axis=0)
    x = g.input("x", FLOAT, [2, 3, 4, 4])
    for i, variance in enumerate(variances):
        x = g.op("Mul", x, scale_of(g, variance, normal(3, seed=i), eps[i]))
    return g.finish([("y", x)], "g")


FEEDS = {"v": np.abs(normal(9)) + 0.1, "x": normal(2, 3, 4, 4)}


def test_scales_of_norms_are_computed_together():
    model = rewritten(norms(), stack_scales, **FEEDS)

    assert op_types(model).count("Sqrt") == op_types(model).count("Reciprocal") == 1
    split = next(node for node in model.graph if node.op_type == "Split" and node.attributes["axis"].as_int() == 1)
    assert len(split.outputs) == 3


def test_norms_with_another_eps_are_apart():
    model = rewritten(norms(eps=(1e-5, 1e-3, 1e-5)), stack_scales, **FEEDS)

    assert op_types(model).count("Sqrt") == 2


def test_a_single_scale_is_left_alone():
    model = rewritten(norms(eps=(1e-5, 1e-4, 1e-3)), stack_scales, **FEEDS)

    assert op_types(model).count("Sqrt") == 3


def test_a_variance_that_comes_from_another_scale_is_left_alone():
    g = GraphBuilder()
    first, second = g.ops("Split", 2, g.input("v", FLOAT, [6]), g.ints(3, 3), axis=0)
    x = g.op("Mul", g.input("x", FLOAT, [2, 3, 4, 4]), scale_of(g, first, normal(3)))
    later = g.op("ReduceMean", g.op("Mul", x, x), g.ints(0, 2, 3), keepdims=0)
    y = g.op("Mul", x, scale_of(g, later, normal(3, seed=1)))
    z = g.op("Mul", y, scale_of(g, second, normal(3, seed=2)))
    model = g.finish([("y", z)], "g")

    model = rewritten(model, stack_scales, v=FEEDS["v"][:6], x=FEEDS["x"])

    assert op_types(model).count("Sqrt") == 2


def test_a_variance_that_is_made_only_after_the_first_scale_is_left_alone():
    """It does not depend on it; but a graph is written in an order, and its memory is counted in that order."""
    g = GraphBuilder()
    x = g.input("x", FLOAT, [2, 3, 4, 4])
    y = g.op("Mul", x, scale_of(g, g.input("v", FLOAT, [3]), normal(3)))
    later = g.op("ReduceMean", g.op("Mul", x, x), g.ints(0, 2, 3), keepdims=0)
    z = g.op("Mul", y, scale_of(g, later, normal(3, seed=1)))

    model = rewritten(g.finish([("y", z)], "g"), stack_scales, v=FEEDS["v"][:3], x=FEEDS["x"])

    assert op_types(model).count("Sqrt") == 2


# Weights once


def turned_round(weight):
    return np.ascontiguousarray(weight.swapaxes(0, 1)[..., ::-1, ::-1])


def forward_and_gradient(weight, *, size=2, forward=None, back=None, back_bias=False):
    """A convolution and, as `rules.conv` writes it, the gradient of its input."""
    g = GraphBuilder()
    out_channels, in_channels = weight.shape[:2]
    y = conv(g, g.input("x", FLOAT, [1, in_channels, size, size]), weight, **(forward or {}))
    gradient = g.input("g", FLOAT, [1, out_channels, size, size])
    turned = g.constant(turned_round(weight))
    bias = [g.constant(np.ones(in_channels, np.float32))] if back_bias else []
    sides = list(weight.shape[2:])
    dx = g.op("Conv", gradient, turned, *bias, kernel_shape=sides, **{**PLAIN, **(back or {})})
    model = g.finish([("y", y), ("dx", dx)], "g")
    feeds = {"x": normal(1, in_channels, size, size), "g": normal(1, out_channels, size, size, seed=1)}
    return model, feeds


def test_a_heavy_weight_is_held_once():
    model, feeds = forward_and_gradient(normal(8, 16, 3, 3))

    model = rewritten(model, keep_weights_once, **feeds)

    assert op_types(model) == ["Conv", "ConvTranspose"]
    forward, back = model.graph
    assert forward.inputs[1] is back.inputs[1]
    assert len(model.graph.initializers) == 1
    assert len(forward.inputs) == 3 and forward.inputs[2] is None, "so that onnxruntime does not copy it to reorder it"


def test_without_padding_the_gradient_has_more_of_it():
    weight = normal(32, 16, 3, 3)
    g = GraphBuilder()
    y = conv(g, g.input("x", FLOAT, [1, 16, 4, 4]), weight, pads=[0, 0, 0, 0])
    turned = conv(g, g.input("g", FLOAT, [1, 32, 2, 2]), turned_round(weight), pads=[2, 2, 2, 2])
    model = g.finish([("y", y), ("dx", turned)], "g")

    model = rewritten(model, keep_weights_once, x=normal(1, 16, 4, 4), g=normal(1, 32, 2, 2))

    assert op_types(model) == ["Conv", "ConvTranspose"]


def test_a_weight_that_is_light_beside_its_feature_map_is_held_twice():
    size = 8
    weight = normal(8, 16, 3, 3)
    assert weight.size < HEAVY * 16 * size * size
    model, feeds = forward_and_gradient(weight, size=size)

    model = rewritten(model, keep_weights_once, **feeds)

    assert op_types(model) == ["Conv", "Conv"]
    assert len(model.graph.initializers) == 2


def symmetric():
    """A weight that turned round is itself, as that of a blur."""
    return np.full((16, 16, 3, 3), 0.1, np.float32)


@pytest.mark.parametrize(
    "unlike",
    [
        {"back": {"pads": [0, 0, 0, 0]}, "size": 4},
        {"back": {"pads": [2, 2, 2, 2], "dilations": [2, 2]}, "size": 4},
        {"back_bias": True},
    ],
    ids=["padding", "dilation", "bias"],
)
def test_a_second_convolution_that_is_no_gradient_is_left_alone(unlike):
    model, feeds = forward_and_gradient(symmetric(), **unlike)

    model = rewritten(model, keep_weights_once, **feeds)

    assert op_types(model) == ["Conv", "Conv"]


def test_a_strided_convolution_is_left_alone():
    """Its gradient is a ConvTranspose already."""
    weight = normal(8, 16, 3, 3)
    g = GraphBuilder()
    y = conv(g, g.input("x", FLOAT, [1, 16, 4, 4]), weight, strides=[2, 2])
    back = conv(g, g.input("g", FLOAT, [1, 8, 2, 2]), weight, "ConvTranspose", strides=[2, 2], output_padding=[1, 1])
    model = g.finish([("y", y), ("dx", back)], "g")

    model = rewritten(model, keep_weights_once, x=normal(1, 16, 4, 4), g=normal(1, 8, 2, 2))

    assert op_types(model) == ["Conv", "ConvTranspose"]
    assert len(model.graph[0].inputs) == 2


def test_only_every_other_weight_is_kept_once_where_that_is_asked_for():
    g = GraphBuilder()
    x, gradient = g.input("x", FLOAT, [1, 16, 2, 2]), g.input("g", FLOAT, [1, 16, 2, 2])
    outputs = []
    for i in range(4):
        weight = normal(16, 16, 3, 3, seed=i)
        outputs.append((f"y{i}", conv(g, x, weight)))
        outputs.append((f"dx{i}", conv(g, gradient, turned_round(weight))))
    model = g.finish(outputs, "g")
    infer_shapes(model)
    feeds = {"x": normal(1, 16, 2, 2), "g": normal(1, 16, 2, 2)}
    before = run(model, **feeds)

    keep_weights_once(model, one_in=2)

    assert op_types(model).count("ConvTranspose") == 2
    assert len(model.graph.initializers) == 2 * 1 + 2 * 2
    for found, expected in zip(run(model, **feeds), before, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-4)


# All of them


def test_the_passes_come_in_the_order_that_each_requires():
    """Constants first: the others look for them."""
    assert PASSES.index(fold_constants) == 0


def test_a_step_that_skips_the_backward_gives_what_the_whole_step_gives(tiny):
    """For frames that pass the gate and for frames that do not."""
    network, options = tiny.network(), tiny.options("running")
    state = initial_state(network)
    frames = tiny.floats(12)[:, None]
    whole = build_graph(network, state, options, GraphRequest("step-1", "step", 1, fast=True))
    skipping = build_graph(network, state, options, GraphRequest("step-1", "step", 1, fast=True))

    skip_backward(skipping)

    assert [v.name for v in skipping.graph.outputs] == [v.name for v in whole.graph.outputs]
    gate = next(node for node in skipping.graph if node.op_type == "If")
    branch = gate.attributes["then_branch"].as_graph()
    masks = [node for node in (*skipping.graph, *branch) if node.op_type == "Greater"]
    made_inside = {value for node in branch for value in node.outputs}
    assert len(masks) > 1
    assert all(node.graph is not branch or not made_inside.isdisjoint(node.inputs) for node in masks), "masks wait"
    weights = [str(node.inputs[1].name) for node in branch if node.op_type == "Conv" and node.inputs[1].const_value]
    assert weights and set(weights) <= set(branch.initializers), "or they are not laid out for fast kernels"
    assert not set(branch.initializers) & set(skipping.graph.initializers)
    sessions = [
        onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString(), providers=["CPUExecutionProvider"])
        for model in (whole, skipping)
    ]
    layout = StateLayout.of(to_adapt_state(state, ""))
    vectors = dict(zip(("parameters", "momentum", "statistics"), layout.pack(to_adapt_state(state, "")), strict=True))
    gates = set()
    for frame in frames:
        feeds = {"frames": frame, **vectors}
        expected, found = (session.run(None, feeds) for session in sessions)
        for value, name, other in zip(expected, [o.name for o in sessions[0].get_outputs()], found, strict=True):
            np.testing.assert_allclose(other, value, rtol=1e-6, atol=1e-7, err_msg=name)
        gates.add(bool(expected[2].any()))
    assert gates == {True, False}, "the frames must try both branches"
