"""Time of one step of each method, side by side in one process, for pytest-benchmark. Not part of the tests.

    pytest benchmarks/test_bench_step.py                                       a table, fastest first
    pytest benchmarks/test_bench_step.py -k "tent or ecotta" --benchmark-autosave
    pytest benchmarks/test_bench_step.py -k onnx --benchmark-compare --benchmark-compare-fail=median:5%

One case runs after the other here. Ratios that drift of the machine cannot bend come from `ecotta-bench --latency`,
where contestants take turns. The frames are noise, so of the torch methods only those are here whose step takes the
same time on any image. Bundles come from `benchmarks/export_networks.py`, or are made once, into the cache.

Environment: ECOTTA_BENCH_BATCH (64, with onnxruntime 1) and ECOTTA_BENCH_THREADS (1).
"""

import os
import sys
from collections.abc import Callable

import numpy as np
import pytest
import torch

from ecotta_rt.bench.bundles import BundleOrder, ForwardOrder, graph_for
from ecotta_rt.bench.exporting import bundle_for, forward_for
from ecotta_rt.bench.inference_session import fastest_forward
from ecotta_rt.bench.network_files import find_network
from ecotta_rt.bench.onnx_engine import to_floats
from ecotta_rt.bench.peers import METHODS, build_method
from ecotta_rt.bench.peers.forward_time import fold_norms
from ecotta_rt.bench.peers.memory_format import to_memory_format
from ecotta_rt.bundle import read_bundle
from ecotta_rt.data.fashion_mnist import CLASSES
from ecotta_rt.errors import EcottaError
from ecotta_rt.options import SessionOptions, StepOptions
from ecotta_rt.prepare.checkpoint import load_network
from ecotta_rt.runtime.engine import Runtime
from ecotta_rt.state import AdaptState

BATCH = int(os.environ.get("ECOTTA_BENCH_BATCH", "64"))
ONNX_BATCH = int(os.environ.get("ECOTTA_BENCH_BATCH", "1"))
THREADS = int(os.environ.get("ECOTTA_BENCH_THREADS", "1"))
TORCH = {  # id -> method, EcoTTA's options
    **{name: (name, {}) for name, entry in METHODS.items() if not entry.takes},
    "ecotta-k4-exact": ("ecotta-k4", {}),
    "ecotta-k4-constant": ("ecotta-k4", {"frozen_gradient": "constant"}),
    "ecotta-k4-running": ("ecotta-k4", {"normalisation": "running"}),
    "ecotta-k4-warmed": ("ecotta-k4-warmed", {}),
}
ONNX = {  # id -> normalisation, what `Runtime` is given
    "source": ("source", {}),
    "source-fast": ("source", {"fast": True}),
    "running": ("running", {}),
    "running-fast": ("running", {"fast": True}),
    "running-extended": ("running", {"options": SessionOptions(THREADS, optimisation="extended")}),
    "running-frame-by-frame": ("running", {"frame_by_frame": True}),
    "batch": ("batch", {}),
}


@pytest.fixture(scope="module")
def files():
    try:
        return find_network("wrn-40-2", "fashion-mnist")
    except EcottaError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def torch_frames():
    torch.set_num_threads(THREADS)
    noise = torch.rand(BATCH, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    return noise.contiguous(memory_format=torch.channels_last)


@pytest.fixture(scope="module")
def onnx_frames():
    return np.random.default_rng(0).integers(0, 256, (ONNX_BATCH, 32, 32, 3), np.uint8)


@pytest.fixture
def timed(benchmark) -> Callable[..., None]:
    """Time a step on its frames, and tell it by the frame."""

    def time(step: Callable[..., object], frames: object, batch: int) -> None:
        benchmark.pedantic(step, (frames,), rounds=30 if batch < 8 else 5, warmup_rounds=1)
        benchmark.extra_info["ms_per_frame"] = 1e3 * benchmark.stats.stats.median / batch

    return time


@pytest.mark.benchmark(group=f"torch, batch {BATCH}, threads {THREADS}")
@pytest.mark.parametrize("case", ["forward", *TORCH])
def test_torch(timed, files, torch_frames, case):
    if case == "forward":
        network = to_memory_format(fold_norms(load_network(files.network), torch_frames), "channels_last")
        with torch.inference_mode():
            timed(network, torch_frames, BATCH)
        return
    name, options = TORCH[case]
    needs = {}
    if "warmed" in METHODS[name].takes:
        if not (path := files.beside("ecotta-k4")).is_file():
            pytest.skip(f"{path} is missing")
        needs = {"warmed": AdaptState.load(path), "step_options": StepOptions(**options)}
    network = to_memory_format(load_network(files.network), "channels_last")
    timed(build_method(name, network, classes=10, **needs), torch_frames, BATCH)


@pytest.mark.benchmark(group=f"onnx, batch {ONNX_BATCH}, threads {THREADS}")
def test_onnx_forward(timed, files, onnx_frames):
    path = forward_for(ForwardOrder(str(files.network), ONNX_BATCH), say)
    forward, _, _ = fastest_forward(path, THREADS, to_floats(onnx_frames))

    timed(forward, to_floats(onnx_frames), ONNX_BATCH)


@pytest.mark.benchmark(group=f"onnx, batch {ONNX_BATCH}, threads {THREADS}")
@pytest.mark.parametrize("case", ONNX)
def test_onnx_step(timed, files, onnx_frames, case):
    normalisation, given = ONNX[case]
    if normalisation == "batch" and ONNX_BATCH == 1:
        pytest.skip("one frame has no batch statistics")
    order = BundleOrder(
        network=str(files.network),
        warmed=str(files.beside("ecotta-k4")),
        normalisation=normalisation,
        gradient="exact",
        batches=(ONNX_BATCH,),
        frame_by_frame=given.get("frame_by_frame", False),
        fast=False,
        classes=CLASSES,
    )
    bundle = read_bundle(bundle_for(order, say))
    if given.get("fast") and graph_for(bundle.manifest, "step", ONNX_BATCH, fast=True) is None:
        pytest.skip(f"{bundle.path.name} has no fast step")
    timed(Runtime(bundle, batch=ONNX_BATCH, **{"options": SessionOptions(THREADS), **given}), onnx_frames, ONNX_BATCH)


def say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)
