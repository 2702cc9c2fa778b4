"""`view` at the end of a forward, as most tutorials write it, and frames whose numbers lie channels-last."""

import copy

import pytest
import torch
from torch import nn

from ecotta_rt.method.attach import attach
from ecotta_rt.method.cut.any_layout import in_any_layout
from ecotta_rt.method.cut.normalise import Normalised
from ecotta_rt.method.cut.partition import partition
from ecotta_rt.method.cut.tracing import trace
from ecotta_rt.method.state import initial_state
from ecotta_rt.method.step import Step
from ecotta_rt.options import StepOptions
from ecotta_rt.student.feature_tap import FeatureTap

ENDS = {
    "view(n, -1)": lambda y: y.view(y.size(0), -1),
    "view(-1, numbers)": lambda y: y.view(-1, 128),
    "view_as": lambda y: y.view_as(y.flatten(1)),
}


class Tutorial(nn.Module):
    def __init__(self, end):
        super().__init__()
        blocks = [nn.Sequential(nn.Conv2d(size, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()) for size in (3, 8, 8)]
        self.features = nn.Sequential(*blocks, nn.MaxPool2d(2))
        self.classifier = nn.Linear(128, 3)
        self.end = end

    def forward(self, x):
        return self.classifier(self.end(self.features(x)))


def tutorial(end):
    torch.manual_seed(0)
    return Tutorial(ENDS[end]).eval()


def channels_last():
    return torch.rand(4, 3, 8, 8).to(memory_format=torch.channels_last)


@pytest.mark.parametrize("end", ENDS)
def test_it_answers_the_same_in_any_layout(end):
    plain, network, frames = tutorial(end), in_any_layout(tutorial(end)), channels_last()
    for weight in network.parameters():
        if weight.ndim == 4:
            weight.data = weight.data.contiguous(memory_format=torch.channels_last)

    with pytest.raises(RuntimeError, match="view size is not compatible"):
        plain(frames)
    assert torch.allclose(network(frames), plain(frames.contiguous()), atol=1e-6)
    assert torch.equal(copy.deepcopy(network)(frames), network(frames))


@pytest.mark.parametrize("end", ENDS)
def test_groups_beside_it_answer_and_learn(end):
    network = tutorial(end).requires_grad_(False)
    adaptable = attach(partition(network, torch.zeros(1, 3, 8, 8), 1))
    start, frames = initial_state(adaptable), channels_last()

    step = Step(adaptable, StepOptions(normalisation="batch", entropy_margin=1))

    assert torch.allclose(step.predict(start, frames), step.predict(start, frames.contiguous()), atol=1e-6)
    assert torch.isfinite(step(start, frames)[0]).all()


def test_it_keeps_its_name_and_its_tensors_and_is_changed_once():
    network = in_any_layout(tutorial("view(n, -1)"))

    assert in_any_layout(network) is network and isinstance(network, Tutorial)
    assert (type(network).__name__, type(network).__module__) == ("Tutorial", __name__)
    assert network.state_dict().keys() == tutorial("view(n, -1)").state_dict().keys()
    assert [kind.__name__ for kind in type(network).__mro__].count("Tutorial") == 2


def test_a_network_without_views_stays_of_its_class():
    assert type(in_any_layout(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten()))) is nn.Sequential


def test_what_cannot_be_traced_is_left_to_others():
    class Branches(nn.Module):
        def forward(self, x):
            return x.view(-1) if x.sum() > 0 else x

    assert type(in_any_layout(Branches())) is Branches


def test_a_view_of_another_number_format_stays_one():
    class Bits(nn.Module):
        def forward(self, x):
            return x.view(torch.int32).view(x.size(0), -1).float()

    targets = [node.target for node in trace(Bits(), torch.rand(2, 3, 4, 4)).nodes if node.op == "call_method"]

    assert targets == ["view", "size", "reshape", "float"]
    frames = torch.rand(2, 3, 4, 4)
    assert torch.equal(in_any_layout(Bits())(frames), Bits()(frames))


def test_it_is_traced_inside_another_network_as_it_was():
    inner = in_any_layout(tutorial("view(n, -1)"))

    targets = [
        str(node.target) for node in trace(Normalised(inner, [0.5] * 3, [0.2] * 3, 3), torch.zeros(1, 3, 8, 8)).nodes
    ]

    assert "reshape" in targets and "view" not in targets and "network.features.3" in targets


def test_an_end_of_ones_own_is_a_student_from_python_too():
    network = tutorial("view(-1, numbers)")

    assert FeatureTap(network, (3, 8, 8), trains=True)(channels_last()).logits.shape == (4, 3)
