"""What all tests share: repeatable property tests, the folder with the CIFAR files, and a network that exports fast."""

import fcntl
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

pytest_plugins = ["fixtures.engines", "fixtures.networks"]

# Repeatable and never timed: a slow machine is no failure. HYPOTHESIS_PROFILE=explore looks for new examples instead.
settings.register_profile("repeatable", derandomize=True, deadline=None, database=None)
settings.register_profile("explore", deadline=None, max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))

# A run tries a bundle that is new in a child, which takes seconds; tests of that ask for it.
os.environ["ECOTTA_TRIAL"] = "off"

# Small networks gain nothing by a second thread, and beside other processes they wait for it: six times as long.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Where an environment forbids bytecode, each worker and each of some hundred children compiles the package anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False


@pytest.fixture(scope="session")
def ecotta_data() -> Path:
    """The folder that holds `cifar-10-batches-bin/` and `CIFAR-10-C/`; skips the test where it is not set."""
    folder = os.environ.get("ECOTTA_DATA")
    if not folder:
        pytest.skip("ECOTTA_DATA is not set: no CIFAR files here")
    return Path(folder)


@pytest.fixture(scope="session")
def made_once(tmp_path_factory, request):
    """Makes what is in a folder by a function of the folder, once a test run: workers wait, and share it."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if hasattr(request.config, "workerinput") else base

    def made(name, make):
        folder, done = shared / "made-once" / name, shared / "made-once" / f"{name}.done"
        folder.mkdir(parents=True, exist_ok=True)
        with (shared / "made-once" / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not done.exists():
                make(folder)
                done.touch()
        return folder

    return made


@pytest.fixture(scope="session")
def checkout() -> Path:
    """The top of the checkout."""
    return Path(__file__).parent.parent


class Tiny:
    """A residual network for 8x8 frames of 5 classes, cut into 2 parts, in which nothing is at its neutral value.

    Small enough that a step is traced and exported in half a second, and that no ReLU of it is likely to be zero but
    for rounding: two engines agree in all they compute, the momentum too.

    Attributes:
        batch: Frames a step of its bundles; `running` and `source` have steps of one frame too.
    """

    batch = 4

    def __init__(self, made_once):
        self._made_once = made_once

    def network(self, seed=0):
        """A new `AdaptableNetwork`."""
        import torch
        import torch.nn.functional as F
        from torch import nn

        from ecotta_rt.method.attach import attach
        from ecotta_rt.method.cut.partition import partition

        class Block(nn.Module):
            def __init__(self, inputs, outputs, stride):
                super().__init__()
                self.bn1, self.bn2 = nn.BatchNorm2d(inputs), nn.BatchNorm2d(outputs)
                self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
                self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
                self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False) if stride > 1 else nn.Identity()

            def forward(self, x):
                return self.shortcut(x) + self.conv2(F.relu(self.bn2(self.conv1(F.relu(self.bn1(x))))))

        class Network(nn.Module):
            def __init__(self):
                super().__init__()
                self.conv = nn.Conv2d(3, 8, 3, padding=1, bias=False)
                self.block1, self.block2 = Block(8, 8, 1), Block(8, 16, 2)
                self.bn, self.fc = nn.BatchNorm2d(16), nn.Linear(16, 5)

            def forward(self, frames):
                x = F.relu(self.bn(self.block2(self.block1(self.conv(2 * frames - 1)))))
                return self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))

        torch.manual_seed(seed)
        network = Network().eval()
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.data.uniform_(0.5, 1.5)
                module.bias.data.normal_(0, 0.3)
                module.running_mean.normal_(0, 0.3)
                module.running_var.uniform_(0.5, 2)
        network.fc.weight.data.mul_(8)
        adaptable = attach(partition(network, torch.zeros(1, 3, 8, 8), 2))
        for group in adaptable.meta_groups:
            for norm, low, high in ((group.norm, 0.8, 1.2), (group.conv_norm, 0.2, 0.6)):
                norm.weight.data.uniform_(low, high)
                norm.bias.data.normal_(0, 0.1)
                norm.running_mean.normal_(0, 0.1)
                norm.running_var.uniform_(0.8, 1.2)
        return adaptable

    def options(self, normalisation, **changes):
        """Steps large enough to see, and a gate that some of `frames` pass and some do not."""
        from ecotta_rt.options import StepOptions

        return StepOptions(**{"normalisation": normalisation, "lr": 0.02, "entropy_margin": 0.4, **changes})

    def bundle(self, normalisation):
        """A bundle of `network()`, made once; with frame-by-frame graphs but in `batch` mode, fast in `source` mode."""
        name = f"tiny.{normalisation}.ecotta"
        return self._made_once(name, lambda folder: self._export(normalisation, folder / name)) / name

    def _export(self, normalisation, path):
        from ecotta_rt.exporter.export import export
        from ecotta_rt.exporter.request import ExportOptions
        from ecotta_rt.method.state import initial_state, to_adapt_state

        network = self.network()
        batched = normalisation == "batch"
        export(
            network,
            to_adapt_state(initial_state(network), network.digest()),
            path,
            ExportOptions(
                model="tiny",
                classes=["ant", "bee", "cat", "dog", "elk"],
                batches=(self.batch,) if batched else (1, self.batch),
                step=self.options(normalisation, frame_by_frame=not batched),
                fast=normalisation == "source",
            ),
        )

    def frames(self, count=4, seed=0):
        """uint8 `[count, 8, 8, 3]`: a colour, a slope and some noise each."""
        rng = np.random.default_rng(seed)
        slopes = rng.normal(0, 12, (count, 1, 1, 3)) * np.linspace(-3, 3, 8)[None, :, None, None]
        pixels = rng.uniform(0, 255, (count, 1, 1, 3)) + slopes + rng.normal(0, 25, (count, 8, 8, 3))
        return pixels.clip(0, 255).astype(np.uint8)

    def floats(self, count=4, seed=0):
        """The same as graphs and torch want it, float32 `[count, 3, 8, 8]` in [0, 1]."""
        return self.frames(count, seed).transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255)


@pytest.fixture(scope="session")
def tiny(made_once):
    return Tiny(made_once)
