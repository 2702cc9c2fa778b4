"""Each lean operator against plain autograd: equal values, equal gradients, fewer bytes kept."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ecotta_rt.method.lean.operators import frozen_convolution, frozen_norm, frozen_relu, recompute
from ecotta_rt.method.statistics import Statistics
from ecotta_rt.profile.profiler import ActivationProfiler


def frozen(module):
    return module.double().requires_grad_(False)


def both(plain, lean, shape=(3, 4, 9, 9), channels_last=False):
    """Value, gradient and kept bytes of the two forms on one input."""
    results = []
    for form in (plain, lean):
        torch.manual_seed(0)
        x = torch.randn(shape, dtype=torch.float64)
        x = x.contiguous(memory_format=torch.channels_last) if channels_last else x
        x.requires_grad_()
        with ActivationProfiler() as profiler:
            y = form(x + 0)  # produced inside: a leaf from outside is no activation
            weights = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view(y.shape)
            (gradient,) = torch.autograd.grad((y * weights).sum(), x)
        results.append((y.detach(), gradient, profiler.report.activation_bytes))
    return results


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize(
    "geometry",
    [
        {"kernel_size": 3, "padding": 1},
        {"kernel_size": 3, "padding": 1, "stride": 2},
        {"kernel_size": 3, "stride": 2},
        {"kernel_size": 1, "stride": 2},
        {"kernel_size": 3, "padding": 2, "dilation": 2},
        {"kernel_size": 3, "padding": 1, "groups": 4},
        {"kernel_size": (1, 5), "padding": (0, 2), "stride": (1, 3), "bias": True},
        {"kernel_size": 5, "padding": 2, "groups": 2, "stride": 2},
    ],
)
def test_frozen_convolution_keeps_nothing_of_its_input(geometry, channels_last):
    conv = frozen(nn.Conv2d(4, 8, **{"bias": False, **geometry}))

    (value, gradient, kept), (lean_value, lean_gradient, lean_kept) = both(
        conv, lambda x: frozen_convolution(x, conv), channels_last=channels_last
    )

    torch.testing.assert_close(lean_value, value)
    torch.testing.assert_close(lean_gradient, gradient)
    weights_of_the_sum = value.numel() * 8
    assert kept - lean_kept == 3 * 4 * 9 * 9 * 8
    assert lean_kept == weights_of_the_sum


@pytest.mark.parametrize("padding", ["same", "valid"])
def test_padding_by_name_and_by_reflection_still_give_the_right_gradient(padding):
    for conv in (
        frozen(nn.Conv2d(4, 4, 3, padding=padding)),
        frozen(nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect")),
    ):
        (value, gradient, _), (lean_value, lean_gradient, _) = both(
            conv, lambda x, conv=conv: frozen_convolution(x, conv)
        )

        torch.testing.assert_close((lean_value, lean_gradient), (value, gradient))


@pytest.mark.parametrize(("plain", "ceiling"), [(F.relu, float("inf")), (F.relu6, 6.0)])
def test_frozen_relu_keeps_one_bit_an_element(plain, ceiling):
    (value, gradient, _), (lean_value, lean_gradient, kept) = both(
        lambda x: plain(4 * x), lambda x: frozen_relu(4 * x, ceiling), shape=(2, 4, 8, 8)
    )

    torch.testing.assert_close((lean_value, lean_gradient), (value, gradient))
    assert kept == 2 * 4 * 8 * 8 // 8 + value.numel() * 8  # the bits, and the weights of the sum


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("affine", [False, True])
def test_constant_norm_is_batch_norm_with_given_statistics(relu, channels_last, affine):
    norm = frozen(nn.BatchNorm2d(4, affine=affine))
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2)
    if affine:
        norm.weight.data.uniform_(-1, 2)
        norm.bias.data.normal_()
    norm.eval()
    source = Statistics("source", {"bn": (norm.running_mean, norm.running_var)})

    plain, lean = both(
        lambda x: F.relu(norm(x)) if relu else norm(x),
        lambda x: frozen_norm(x, norm, "bn", source, exact=True, relu=relu),
        channels_last=channels_last,
    )

    torch.testing.assert_close(lean[:2], plain[:2])
    assert lean[2] < plain[2]


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("relu", [False, True])
def test_exact_norm_follows_the_gradient_through_the_batch(relu, channels_last):
    norm = frozen(nn.BatchNorm2d(4, momentum=0.0)).train()
    norm.weight.data.uniform_(0.5, 2)

    plain, lean = both(
        lambda x: F.relu(norm(x)) if relu else norm(x),
        lambda x: frozen_norm(x, norm, "bn", Statistics("batch", {}), exact=True, relu=relu),
        channels_last=channels_last,
    )

    torch.testing.assert_close(lean[:2], plain[:2])


def test_recompute_runs_the_segment_again_and_keeps_only_its_input():
    conv = frozen(nn.Conv2d(4, 4, 3, padding=1))
    runs = []

    def segment(x):
        runs.append(torch.is_grad_enabled())
        return torch.tanh(conv(torch.tanh(x)))

    (value, gradient, _), (lean_value, lean_gradient, _) = both(segment, lambda x: recompute(segment, x))

    torch.testing.assert_close((lean_value, lean_gradient), (value, gradient))
    assert runs == [True, False, True]
    x = torch.randn(3, 4, 9, 9, dtype=torch.float64, requires_grad=True)
    with ActivationProfiler() as profiler:
        recompute(segment, x + 0)
    assert profiler.report.activation_bytes == x.nbytes


def test_without_a_gradient_to_follow_nothing_is_kept():
    norm, conv = frozen(nn.BatchNorm2d(4)), frozen(nn.Conv2d(4, 4, 3))
    x = torch.randn(2, 4, 6, 6, dtype=torch.float64)

    with ActivationProfiler() as profiler:
        y = frozen_norm(frozen_convolution(x, conv), norm, "bn", Statistics("batch", {}), exact=True, relu=True)
        frozen_relu(y)

    assert profiler.report.activation_bytes == 0
