"""A frozen stretch run by the lean operators against the same stretch run plainly, as others write networks."""

import pytest
import torch
import torch.nn.functional as F
from torch import fx, nn

from ecotta_rt.method.lean.frozen import FrozenRun, norms_of
from ecotta_rt.method.statistics import Statistics


class Stretch(nn.Module):
    """Convolution, norm, then whatever `rest` does with the module and the feature map."""

    def __init__(self, rest):
        super().__init__()
        self.conv = nn.Conv2d(4, 8, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.bare = nn.BatchNorm2d(8, affine=False)
        self.group_norm = nn.GroupNorm(2, 8)
        self.relu, self.relu_in_place = nn.ReLU(), nn.ReLU(inplace=True)
        self.hardswish = nn.Hardswish(inplace=True)
        self._rest = rest

    def forward(self, x):
        return self._rest(self, self.norm(self.conv(x)))


def relu_and_its_overwritten_input(net, x):
    return net.depthwise(net.relu_in_place(x)) + x


def relu_whose_result_is_dropped(net, x):
    F.relu(x, inplace=True)
    return net.depthwise(x)


def relu_of_a_sum_made_in_place(net, x):
    y = net.depthwise(x)
    y.add_(x)
    torch.relu_(y)
    return y + net.depthwise(y)


RESTS = {
    "functional relu": lambda net, x: net.depthwise(F.relu(x)),
    "one relu called twice": lambda net, x: net.relu(net.depthwise(net.relu(x))),
    "relu6": lambda net, x: net.depthwise(F.relu6(4 * x)),
    "hard swish in place": lambda net, x: net.depthwise(net.hardswish(x)),
    "norm without weights": lambda net, x: F.relu(net.bare(net.depthwise(F.relu(x)))),
    "group norm": lambda net, x: F.relu(net.group_norm(x)),
    "max pool and concatenation": lambda net, x: torch.cat([F.max_pool2d(x, 3, 1, 1), net.depthwise(x).relu()], 1),
    "gate": lambda net, x: x * torch.sigmoid(net.depthwise(F.adaptive_avg_pool2d(x, 1))),
    "relu and its overwritten input": relu_and_its_overwritten_input,
    "relu whose result is dropped": relu_whose_result_is_dropped,
    "relu of a sum made in place": relu_of_a_sum_made_in_place,
}


def traced(rest):
    torch.manual_seed(0)
    stretch = Stretch(rest).double().requires_grad_(False).eval()
    for norm in (stretch.norm, stretch.bare):
        norm.running_mean.normal_(0, 0.3)
        norm.running_var.uniform_(0.5, 2)
        norm.momentum = 0.0
    return fx.GraphModule(stretch, fx.Tracer().trace(stretch))


def value_and_gradient(run):
    x = torch.randn(3, 4, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()
    y = run(x)
    return y.detach(), torch.autograd.grad((y * torch.linspace(-1, 1, y.numel()).view(y.shape)).sum(), x)[0]


@pytest.mark.parametrize("mode", ["batch", "source"])
@pytest.mark.parametrize("name", RESTS)
def test_a_lean_run_gives_the_plain_value_and_gradient(name, mode):
    module = traced(RESTS[name])
    norms = norms_of(module)
    known = {n: (norm.running_mean.clone(), norm.running_var.clone()) for n, norm in norms.items()}
    for norm in norms.values():
        norm.train(mode == "batch")
    expected = value_and_gradient(module)

    found = value_and_gradient(lambda x: FrozenRun(module, exact=True)(x, Statistics(mode, known)))

    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def test_a_run_holds_no_feature_map_when_it_is_over():
    run = FrozenRun(traced(RESTS["functional relu"]), exact=False)

    run(torch.zeros(2, 4, 8, 8, dtype=torch.float64), Statistics("batch", {}))

    held = [value for value in vars(run).values() if isinstance(value, torch.Tensor)]
    assert not held
    assert not run.env
    assert not list(run.args_iter)
