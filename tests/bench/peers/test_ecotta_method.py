import dataclasses

import numpy as np
import pytest
import torch

from ecotta_rt.bench.peers.ecotta import Ecotta
from ecotta_rt.errors import InputFileError, UsageError
from ecotta_rt.method.attach import attach
from ecotta_rt.method.cut.partition import partition
from ecotta_rt.method.torch_engine import TorchEngine
from ecotta_rt.options import StepOptions
from ecotta_rt.prepare.networks.wide_resnet import WideResNet
from ecotta_rt.state import AdaptState


def _network(seed: int = 0) -> WideResNet:
    torch.manual_seed(seed)
    return WideResNet(16, 1).eval()


def _warmed(network: WideResNet, parts: int = 4, kernel: int = 3, size: int = 32) -> AdaptState:
    return TorchEngine(attach(partition(network, torch.zeros(1, 3, size, size), parts), kernel)).state


def _frames(count: int = 4, size: int = 32) -> torch.Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(1))


def test_it_answers_and_learns_as_the_engine_it_wraps():
    options = StepOptions(entropy_margin=1.0)
    warmed = _warmed(_network())
    engine = TorchEngine(attach(partition(_network(), _frames(1), 4)), options, warmed)
    method = Ecotta(_network(), parts=4, warmed=warmed, step_options=options)

    for _ in range(2):
        assert torch.equal(method(_frames()), engine(_frames()))
    assert method.trainable_parameters == engine.trainable_parameters


@pytest.mark.parametrize("kernel", [1, 3])
def test_the_window_of_the_meta_convolutions_is_read_from_the_state(kernel):
    method = Ecotta(_network(), parts=4, warmed=_warmed(_network(), kernel=kernel))

    assert method.network.groups[0].conv.kernel_size == (kernel, kernel)


def test_fresh_meta_groups_are_refused():
    with pytest.raises(UsageError, match="ecotta-k5 needs warmed-up meta groups"):
        Ecotta(_network(), parts=5, warmed=None)


def test_a_state_of_other_weights_is_refused():
    with pytest.raises(InputFileError, match="belongs to network"):
        Ecotta(_network(seed=1), parts=4, warmed=_warmed(_network()))


def test_a_state_of_another_cut_is_refused():
    with pytest.raises(InputFileError):
        Ecotta(_network(), parts=5, warmed=_warmed(_network(), parts=4))


def test_a_state_without_meta_groups_is_refused():
    empty = dataclasses.replace(_warmed(_network()), parameters={"weight": np.zeros(3, np.float32)})

    with pytest.raises(InputFileError, match=r"no groups\.0\.conv\.weight"):
        Ecotta(_network(), parts=4, warmed=empty)


def test_not_adapting_keeps_the_state_but_running_statistics_follow_the_stream():
    def drift(normalisation: str) -> dict[str, float]:
        method = Ecotta(
            _network(),
            parts=4,
            warmed=_warmed(_network()),
            adapting=False,
            step_options=StepOptions(normalisation=normalisation),
        )
        before = method.engine.state
        method(_frames())
        return {name: value for name, value in method.engine.state.compare(before).items() if value > 0}

    assert drift("batch") == drift("source") == {}
    assert {name.partition("/")[0] for name in drift("running")} == {"statistics"}


def test_frames_of_another_size_need_the_network_cut_for_them():
    """Only sizes matter to the cut: 64x64 frames pass the same parts."""
    method = Ecotta(_network(), parts=4, warmed=_warmed(_network(), size=64), frame_shape=(3, 64, 64))

    assert method(_frames(size=64)).shape == (4, 10)
