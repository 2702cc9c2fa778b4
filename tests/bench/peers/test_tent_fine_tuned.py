import copy

import numpy as np
import pytest
import torch

from ecotta_rt.bench.peers import build_method
from ecotta_rt.errors import UsageError
from ecotta_rt.prepare.epochs import WarmUpOptions
from ecotta_rt.prepare.networks.wide_resnet import WideResNet
from ecotta_rt.prepare.warmup import fine_tune


def _network(width: int = 1) -> WideResNet:
    torch.manual_seed(0)
    return WideResNet(10, width, classes=2).eval()


def test_tent_starts_from_the_fine_tuned_weights_and_leaves_both_networks_alone():
    source = _network()
    drawn = np.random.default_rng(0)
    frames, labels = drawn.integers(0, 256, (16, 32, 32, 3), np.uint8), drawn.integers(0, 2, 16)
    tuned = fine_tune(copy.deepcopy(source), frames, labels, WarmUpOptions(epochs=1, batch=8))
    before = copy.deepcopy(tuned.state_dict())
    batch = torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255

    method = build_method("tent-fine-tuned", source, classes=2, fine_tuned=tuned)
    first, second = method(batch), method(batch)

    assert torch.equal(first, build_method("bn", tuned, classes=2)(batch))
    assert not torch.equal(first, build_method("bn", source, classes=2)(batch))
    assert not torch.equal(second, first)
    assert all(torch.equal(tensor, before[name]) for name, tensor in tuned.state_dict().items())


def test_a_network_of_another_architecture_is_no_fine_tuned_one():
    with pytest.raises(UsageError, match="names or shapes of its parameters differ"):
        build_method("tent-fine-tuned", _network(), classes=2, fine_tuned=_network(width=2))
