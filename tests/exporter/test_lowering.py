"""Every rule against torch: the value, and the gradient with respect to every input, to 1e-5."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from torch import nn

from ecotta_rt.errors import NetworkError
from ecotta_rt.exporter.lowering import lower
from ecotta_rt.exporter.traced import trace_step
from ecotta_rt.method.attach import attach
from ecotta_rt.method.cut.partition import partition
from ecotta_rt.method.state import initial_state
from ecotta_rt.method.step import Step
from ecotta_rt.options import StepOptions

# A trace and a session take some 20 ms each.
few = settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])

kernels = st.sampled_from([(1, 1), (3, 3), (2, 2), (5, 5), (1, 5), (3, 1)])
strides = st.sampled_from([(1, 1), (2, 2), (3, 3), (1, 2)])


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


# Convolutions


@st.composite
def convolutions(draw):
    """Shapes and attributes of a convolution that gives at least one pixel: (input, weight, keywords)."""
    groups = draw(st.sampled_from([1, 1, 2, 4]))
    inputs, outputs = groups * draw(st.integers(1, 3)), groups * draw(st.integers(1, 3))
    kernel, dilation = draw(kernels), draw(st.sampled_from([(1, 1), (2, 2), (1, 2)]))
    padding = tuple(draw(st.integers(0, k)) for k in kernel)
    least = [max(1, d * (k - 1) + 1 - 2 * p) for k, d, p in zip(kernel, dilation, padding, strict=True)]
    size = tuple(draw(st.integers(side, 9)) for side in least)
    keywords = {"stride": draw(strides), "padding": padding, "dilation": dilation, "groups": groups}
    return (draw(st.sampled_from([1, 3])), inputs, *size), (outputs, inputs // groups, *kernel), keywords


@few
@given(convolutions())
def test_a_frozen_convolution_and_its_input_gradient(check_rules, drawn):
    shape, window, keywords = drawn
    weight, bias = normal(*window, seed=1), normal(window[0], seed=2)

    check_rules(lambda x: F.conv2d(x, weight, bias, **keywords), normal(*shape))


@few
@given(convolutions())
def test_a_learned_convolution_and_all_its_gradients(check_rules, drawn):
    shape, window, keywords = drawn

    def convolve(x, weight, bias):
        return F.conv2d(x, weight, bias, **keywords)

    check_rules(convolve, normal(*shape), normal(*window, seed=1), normal(window[0], seed=2))


@pytest.mark.parametrize("frames", [1, 4])
@pytest.mark.parametrize(("kernel", "stride"), [(1, 1), (1, 2), (3, 1), (3, 2)])
def test_the_convolution_of_a_meta_group(check_rules, kernel, stride, frames):
    check_rules(
        lambda x, weight: F.conv2d(x, weight, None, stride, kernel // 2),
        normal(frames, 6, 9, 8),
        normal(5, 6, kernel, kernel, seed=1),
    )


@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (3, 2), (5, 1), (5, 2)])
def test_a_depthwise_convolution(check_rules, kernel, stride):
    conv = nn.Conv2d(16, 16, kernel, stride, kernel // 2, groups=16, bias=False).requires_grad_(False)

    check_rules(conv, normal(2, 16, 12, 11))


@few
@given(convolutions(), st.booleans())
def test_a_transposed_convolution_and_its_gradients(check_rules, drawn, learned):
    (frames, inputs, *size), window, keywords = drawn
    shape = (frames, window[0], *size)
    weight = normal(*window, seed=1)
    bias = normal(inputs, seed=2)
    sides = [
        (n - 1) * s - 2 * p + d * (k - 1) + 1
        for n, s, p, d, k in zip(
            size, keywords["stride"], keywords["padding"], keywords["dilation"], window[2:], strict=True
        )
    ]
    assume(min(sides) > 0)
    extra = tuple(min(s, d) - 1 for s, d in zip(keywords["stride"], keywords["dilation"], strict=True))

    def convolve(x, weight=weight, bias=bias):
        return F.conv_transpose2d(x, weight, bias, output_padding=extra, **keywords)

    check_rules(convolve, normal(*shape), *((weight, bias) if learned else ()))


@pytest.mark.parametrize("mode", ["same", "valid"])
def test_a_convolution_with_named_padding(check_rules, mode):
    conv = nn.Conv2d(3, 4, (3, 5), padding=mode).requires_grad_(False)

    check_rules(conv, normal(2, 3, 7, 7))


def test_a_one_dimensional_convolution_across_channels(check_rules):
    """As in an efficient channel attention."""
    conv = nn.Conv1d(1, 1, 3, padding=1, bias=False).requires_grad_(False)

    check_rules(lambda x: conv(x.mean((2, 3)).unsqueeze(1)).squeeze(1), normal(2, 8, 3, 3))


# Pooling


@st.composite
def poolings(draw):
    """Input shape and keywords of a 2-d pooling."""
    kernel = draw(kernels)
    padding = tuple(draw(st.integers(0, k // 2)) for k in kernel)
    size = tuple(draw(st.integers(max(1, k - 2 * p), 10)) for k, p in zip(kernel, padding, strict=True))
    keywords = {"kernel_size": kernel, "stride": draw(strides), "padding": padding, "ceil_mode": draw(st.booleans())}
    return (draw(st.sampled_from([1, 2])), 3, *size), keywords


@few
@given(poolings())
def test_max_pooling_and_its_gradient(check_rules, drawn):
    shape, keywords = drawn

    check_rules(lambda x: F.max_pool2d(x, **keywords), normal(*shape))


def test_dilated_max_pooling(check_rules):
    check_rules(lambda x: F.max_pool2d(x, 2, stride=1, padding=1, dilation=3), normal(2, 3, 9, 8))


def test_max_pooling_gives_a_tie_to_the_first_as_torch_does(check_rules):
    """Behind a ReLU most windows of a dark frame are ties."""
    check_rules(lambda x: F.max_pool2d(x, 3, 2, 1), normal(2, 4, 9, 9).round())


def test_max_pooling_without_a_gradient_looks_for_no_places(lower_function):
    model = lower_function(lambda x: (F.max_pool2d(x, 2),), normal(1, 2, 4, 4))

    assert [len(node.outputs) for node in model.graph if node.op_type == "MaxPool"] == [1]


@few
@given(poolings(), st.booleans(), st.sampled_from([None, 5]))
def test_average_pooling_and_its_gradient(check_rules, drawn, count_include_pad, divisor):
    shape, keywords = drawn

    def pool(x):
        return F.avg_pool2d(x, **keywords, count_include_pad=count_include_pad, divisor_override=divisor)

    check_rules(pool, normal(*shape))


@few
@given(st.tuples(*[st.integers(1, 9)] * 4))
def test_adaptive_average_pooling_to_any_size(check_rules, sides):
    height, width, out_height, out_width = sides

    check_rules(lambda x: F.adaptive_avg_pool2d(x, (out_height, out_width)), normal(2, 3, height, width))


@pytest.mark.parametrize("size", [1, (2, 3), (None, 2)])
def test_adaptive_max_pooling(check_rules, size):
    check_rules(lambda x: F.adaptive_max_pool2d(x, size), normal(2, 3, 6, 6))


@pytest.mark.parametrize("keepdim", [False, True])
def test_a_mean_over_the_positions(check_rules, keepdim):
    check_rules(lambda x: x.mean((2, 3), keepdim=keepdim), normal(2, 3, 5, 4))


# Activations

ACTIVATIONS = {
    **{name: getattr(F, name) for name in "relu relu6 hardswish hardsigmoid silu mish leaky_relu softplus".split()},
    **{name: getattr(F, name) for name in "elu selu celu gelu hardtanh softsign tanhshrink".split()},
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "gelu by tanh": lambda x: F.gelu(x, approximate="tanh"),
    "elu, alpha 0.3": lambda x: F.elu(x, 0.3),
    "celu, alpha 0.3": lambda x: F.celu(x, 0.3),
    "softplus, beta 2": lambda x: F.softplus(x, beta=2),
    "leaky_relu, slope 0.2": lambda x: F.leaky_relu(x, 0.2),
    "hardtanh, -0.5 to 2": lambda x: F.hardtanh(x, -0.5, 2.0),
    "clamp": lambda x: x.clamp(-1.5, 0.5),
    "clamp from below": lambda x: x.clamp(min=0.25),
    "clamp from above": lambda x: x.clamp(max=0.25),
    "log of softmax": lambda x: F.log_softmax(x, dim=1),
    "softmax": lambda x: F.softmax(x, dim=1),
    "in place": lambda x: F.hardswish(F.relu6(x * 2, inplace=True), inplace=True) + 1,
}


@pytest.mark.parametrize("activation", ACTIVATIONS.values(), ids=ACTIVATIONS.keys())
def test_an_activation_and_its_gradient(check_rules, activation):
    check_rules(activation, 4 * normal(2, 5, 6, 7))


@pytest.mark.parametrize("name", ["relu", "relu6", "hardswish", "hardsigmoid", "leaky_relu", "elu"])
def test_an_activation_has_torchs_derivative_where_it_jumps(check_rules, name):
    check_rules(ACTIVATIONS[name], torch.tensor([[-3.0, -0.0, 0.0, 3.0, 6.0]]))


def test_a_learned_slope_below_zero(check_rules):
    check_rules(F.prelu, normal(2, 4, 3, 3), normal(4, seed=1))


# Joins and shapes


@pytest.mark.parametrize("axis", [1, -1, 0])
def test_concatenation(check_rules, axis):
    check_rules(lambda a, b: torch.cat([a, b.relu(), a], axis), normal(2, 3, 4, 5), normal(2, 3, 4, 5, seed=1))


def test_a_residual_addition_uses_its_input_twice(check_rules):
    weight = normal(3, 3, 3, 3, seed=1)

    check_rules(lambda x: F.relu(x + F.conv2d(x, weight, None, 1, 1)), normal(2, 3, 6, 6))


def test_a_gate_is_broadcast_over_the_positions(check_rules):
    """Squeeze and excite."""
    weight = normal(4, 4, 1, 1, seed=1)

    check_rules(lambda x: x * F.conv2d(F.adaptive_avg_pool2d(x, 1), weight).sigmoid(), normal(2, 4, 5, 5))


SHAPES = {
    "split": lambda x: torch.cat(x.split([1, 3], 1)[::-1], 1),
    "chunk": lambda x: torch.cat(x.chunk(2, 1)[::-1], 1),
    "channel shuffle": lambda x: x.view(2, 2, 2, 6, 5).transpose(1, 2).reshape(2, 4, 6, 5),
    "slice": lambda x: x[:, 1:3, 2:, :-1],
    "every second pixel": lambda x: x[:, :, ::2, 1::2],
    "every third from the end": lambda x: x[:, :, -5::3],
    "padding": lambda x: F.pad(x, (0, 1, 2, 0, 1, 0)),
    "negative padding": lambda x: F.pad(x, (-1, 2, 1, -2)),
    "a frame of them": lambda x: x[-1] * x[:, 2].sum(),
    "flatten": lambda x: x.flatten(1) * 2,
    "permute": lambda x: x.permute(0, 2, 3, 1) - 1,
    "expand": lambda x: x.mean(1, keepdim=True).expand_as(x) * x,
    "stack": lambda x: torch.stack([x, x * 2], 1),
    "zeros that broadcast": lambda x: torch.zeros(2, 4, 6, 5) + x[:, :1],
    "ones that broadcast": lambda x: torch.ones(2, 4, 6, 5) * x[:, :1],
    "powers": lambda x: (x * x + 1).pow(-2) + x.pow(3) + 2.0**x,
    "largest and smallest of two": lambda x: torch.maximum(x, x * x) + torch.minimum(x, -2 * x),
    "choice": lambda x: torch.where(x > 0, x * 2, 0.5),
    "all of it": lambda x: x.sum() + x.mean(),
}


@pytest.mark.parametrize("function", SHAPES.values(), ids=SHAPES.keys())
def test_a_change_of_shape_or_a_join(check_rules, function):
    check_rules(function, normal(2, 4, 6, 5))


def test_a_classifier(check_rules):
    frozen = nn.Linear(6, 3).requires_grad_(False)

    check_rules(frozen, normal(2, 6))
    check_rules(F.linear, normal(2, 6), normal(3, 6, seed=1), normal(3, seed=2))


# What cannot be exported


def test_an_unknown_operator_is_named_with_what_to_do(lower_function):
    with pytest.raises(NetworkError, match=r"aten\.cumsum\.default cannot be exported.*Replace that operator"):
        lower_function(lambda x: (x.cumsum(1),), normal(2, 3))


class Cumulative(nn.Module):
    def forward(self, x):
        return x.cumsum(1)


def test_an_unknown_operator_is_found_in_the_network():
    features = nn.Sequential(
        *[nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU()) for _ in range(4)]
    )
    features[2].append(Cumulative())
    network = nn.Sequential(features, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 5))
    frames = torch.rand(2, 3, 16, 16)
    adaptable = attach(partition(network.eval(), frames, parts=2))
    options = StepOptions(normalisation="source")
    traced = trace_step(Step(adaptable, options), initial_state(adaptable), frames)

    with pytest.raises(NetworkError, match=r"aten\.cumsum\.default in '0\.2\.3' cannot be exported"):
        lower(traced, "step")


def test_indices_of_a_max_pooling_are_not_for_the_network(lower_function):
    def unpool(x):
        y, places = F.max_pool2d(x, 2, return_indices=True)
        return (y + places,)

    with pytest.raises(NetworkError, match=r"hands its indices to aten\.add.*return_indices=True"):
        lower_function(unpool, normal(1, 1, 4, 4))


def test_uneven_adaptive_max_pooling_is_refused(lower_function):
    with pytest.raises(NetworkError, match="from 7x7 to 3x3 cannot be exported: its windows differ in size"):
        lower_function(lambda x: (F.adaptive_max_pool2d(x, 3),), normal(1, 1, 7, 7))


def test_weights_of_a_one_dimensional_convolution_do_not_learn(lower_function):
    def gradient(x, weight):
        weight = weight.detach().requires_grad_()
        with torch.enable_grad():
            return torch.autograd.grad(F.conv1d(x, weight).sum(), [weight])

    with pytest.raises(NetworkError, match="1-d convolution cannot be exported.*freeze that one"):
        lower_function(gradient, normal(1, 2, 5), normal(2, 2, 3))


def change_a_view(x):
    x = x * 1
    x[:, :1].mul_(2)
    return (x + 1,)


def change_under_a_view(x):
    x = x * 1
    view = x.flatten(1)
    x.relu_()
    return (view + 1,)


@pytest.mark.parametrize("function", [change_a_view, change_under_a_view])
def test_a_change_in_place_seen_through_another_view_is_refused(lower_function, function):
    with pytest.raises(NetworkError, match="works in place, and aten.add.Tensor reads the same memory later"):
        lower_function(function, normal(2, 3, 4))


def test_a_change_in_place_that_nobody_else_sees_is_a_new_value(lower_function, open_session, distance):
    def function(x):
        y = (x * 1).flatten(1).relu_()
        y += 1
        a, b = (x * 2).split([1, 2], 1)
        return (y.mul_(2), a + b.mean())

    x = normal(2, 3, 4)
    found = open_session(lower_function(function, x)).run(None, {"input0": x.numpy()})

    assert all(distance(one, other) < 1e-6 for one, other in zip(found, function(x), strict=True))
