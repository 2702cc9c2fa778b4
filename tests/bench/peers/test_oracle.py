import pytest
import torch
import torch.nn.functional as F

from ecotta_rt.bench.peers.ecotta import Ecotta
from ecotta_rt.bench.peers.oracle import Oracle
from ecotta_rt.method.attach import attach
from ecotta_rt.method.cut.partition import partition
from ecotta_rt.method.torch_engine import TorchEngine
from ecotta_rt.options import StepOptions
from ecotta_rt.prepare.networks.wide_resnet import WideResNet
from ecotta_rt.state import AdaptState


def _network() -> WideResNet:
    torch.manual_seed(0)
    return WideResNet(16, 1).eval()


def _warmed() -> AdaptState:
    torch.manual_seed(1)
    return TorchEngine(attach(partition(_network(), torch.zeros(1, 3, 32, 32), 4))).state


def _oracle(normalisation: str = "batch", **options: float) -> Oracle:
    step = StepOptions(normalisation=normalisation)
    return Oracle(_network(), parts=4, warmed=_warmed(), step_options=step, **options)


def _frames(count: int = 8, seed: int = 1) -> torch.Tensor:
    return torch.rand(count, 3, 32, 32, generator=torch.Generator().manual_seed(seed))


_NAME = "groups.3.norm.bias"


def test_it_takes_an_adam_step_on_the_cross_entropy_of_the_labels():
    method, labels = _oracle(), torch.arange(8)
    network = method.network
    parameter = dict(network.named_parameters())[_NAME]
    (gradient,) = torch.autograd.grad(F.cross_entropy(network(_frames()), labels), [parameter])
    expected = parameter.detach() - 1e-3 * 8 / 64 * gradient / (gradient.abs() + 1e-8)

    method(_frames())
    method.teach(labels)

    torch.testing.assert_close(torch.from_numpy(method.engine.state.parameters[_NAME]), expected, rtol=0, atol=1e-7)


def test_it_answers_before_it_is_taught_as_the_warmed_groups_do():
    assert torch.equal(_oracle()(_frames()), Ecotta(_network(), parts=4, warmed=_warmed(), adapting=False)(_frames()))


def test_labels_that_are_repeated_are_learnt():
    method, labels = _oracle(learning_rate=0.1), torch.tensor([3, 1, 4, 1, 5, 2, 6, 5])
    before = (method(_frames()).argmax(1) == labels).sum()
    for _ in range(30):
        method.teach(labels)
        logits = method(_frames())

    assert int((logits.argmax(1) == labels).sum()) == 8 > int(before)


def test_a_frame_without_a_label_teaches_nothing():
    method, alone = _oracle(), _oracle()
    method(_frames())
    method.teach(torch.full((8,), -1))

    assert torch.equal(method(_frames()), alone(_frames()))


@pytest.mark.parametrize("normalisation", ["running", "source"])
def test_single_frames_are_learnt_from_by_the_statistics_they_were_answered_with(normalisation):
    method = _oracle(normalisation, learning_rate=1.0)
    method(_frames(1))
    statistics = {name: values.copy() for name, values in method.engine.state.statistics.items()}
    method.teach(torch.tensor([2]))

    after = method.engine.state.statistics
    assert all((after[name] == values).all() for name, values in statistics.items())
    assert method(_frames(1)).shape == (1, 10)
    mean = method.network.norms()["groups.0.norm"].running_mean
    torch.testing.assert_close(mean, torch.from_numpy(statistics["groups.0.norm.mean"]))
