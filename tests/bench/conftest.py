"""Reports and rows as `ecotta-bench --memory` makes them without measuring anything, and a small network to measure."""

import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ecotta_rt.bench.bundles import BundleOrder, ForwardOrder
from ecotta_rt.bench.case import Case
from ecotta_rt.bench.environment import Environment
from ecotta_rt.bench.recording import write_recording
from ecotta_rt.bench.results import BenchReport, ModelFacts, Row, StreamFacts
from ecotta_rt.data.stream import Segment

MIB = 1024 * 1024


def make_row(method: str = "tent", **changes: Any) -> Row:
    values: dict[str, Any] = {
        "method": method,
        "engine": "torch",
        "batch": 64,
        "normalisation": "batch",
        "frames": 384,
        "error_percent": 27.34375,
        "errors": {"fog": 25.0, "snow": 29.6875},
        "activation_bytes": 344 * MIB,
        "step_peak_bytes": 400 * MIB,
        "process_baseline_bytes": 320 * MIB,
        "load_peak_bytes": 330 * MIB,
        "process_peak_bytes": 860 * MIB,
        "ms_per_frame": 15.0,
        "forward_ms_per_frame": 5.0,
        "trainable_parameters": 5408,
        "session_options": {"threads": 2, "memory_format": "channels_last"},
    }
    return Row(**{**values, **changes})


def make_report(*rows: Row, **changes: Any) -> BenchReport:
    values: dict[str, Any] = {
        "environment": Environment("a processor", 2, 2, {"python": "3.11.7", "torch": "2.13.0"}, "ab" * 20),
        "stream": StreamFacts("fashion-mnist-c", 192, ("fog", "snow"), 5, "official", 7),
        "model": ModelFacts("wrn-40-2", 2243546, "cd" * 32),
        "rows": rows,
        "beside": {},
    }
    return BenchReport(**{**values, **changes})


@pytest.fixture
def row() -> Callable[..., Row]:
    """Makes a row; keywords change fields."""
    return make_row


@pytest.fixture
def report() -> Callable[..., BenchReport]:
    """Makes a report of the given rows; keywords change fields."""
    return make_report


@dataclass(frozen=True)
class SmallNetwork:
    """A CIFAR ResNet-20 with random weights and what was made from it, for batches of two."""

    network: Path
    warmed: Path
    order: BundleOrder
    bundle: Path
    forward: Path
    recording: Path

    def case(self, method: str, **changes: Any) -> Case:
        values: dict[str, Any] = {
            "network": str(self.network),
            "resource": str(self.warmed),
            "recording": str(self.recording),
            "batch": 2,
            "normalisation": "running",
            "threads": 1,
            "engine": "onnx",
            "bundle": str(self.bundle),
            "forward": str(self.forward),
        }
        return Case(method=method, **{**values, **changes})


@pytest.fixture(scope="session")
def small_network(made_once) -> SmallNetwork:
    """Made by the very process that makes bundles for the bench, here without its own interpreter."""
    pytest.importorskip("torch")
    folder = made_once("small-network", _make_small_network)
    order = _small_order(folder)
    made = ("net.ecotta", "forward.onnx", "stream")
    return SmallNetwork(Path(order.network), Path(order.warmed), order, *(folder / name for name in made))


def _small_order(folder: Path) -> BundleOrder:
    network, warmed = folder / "net.safetensors", folder / "net.ecotta-k4.safetensors"
    return BundleOrder(str(network), str(warmed), "running", "exact", (2,), True, False, tuple("abcdefghij"))


def _make_small_network(folder: Path) -> None:
    import torch

    from ecotta_rt.bench.peers import export_worker
    from ecotta_rt.method.attach import attach
    from ecotta_rt.method.cut.partition import partition
    from ecotta_rt.method.torch_engine import TorchEngine
    from ecotta_rt.prepare.checkpoint import load_network, save_network
    from ecotta_rt.prepare.networks import build_network

    network, warmed = folder / "net.safetensors", folder / "net.ecotta-k4.safetensors"
    torch.manual_seed(0)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as the process has it: tracing is small pieces of work
    save_network(build_network("resnet-20"), network, model="resnet-20")
    TorchEngine(attach(partition(load_network(network), torch.zeros(1, 3, 32, 32), 4), 3)).state.save(warmed)
    for path, made in (
        (folder / "net.ecotta", _small_order(folder)),
        (folder / "forward.onnx", ForwardOrder(str(network), 2)),
    ):
        task = {"kind": type(made).__name__, "path": str(path), "order": asdict(made)}
        export_worker.make(task, lambda message: None)
    torch.set_num_threads(threads)
    draws = np.random.default_rng(0)
    (folder / "stream").mkdir()
    write_recording(
        folder / "stream",
        [
            Segment(name, draws.integers(0, 256, (2, 32, 32, 3), np.uint8), draws.integers(0, 10, 2))
            for name in ("fog", "snow")
        ],
    )


# What the console script of a measured process does, in an interpreter to which torch cannot be brought.
WITHOUT_TORCH = "import sys; sys.modules['torch'] = None; from {module} import main; sys.exit(main())"


@pytest.fixture(scope="session")
def without_torch() -> Callable[[str], tuple[str, ...]]:
    """The command that runs a module of ours where `import torch` fails."""
    return lambda module: (sys.executable, "-P", "-c", WITHOUT_TORCH.format(module=module))
