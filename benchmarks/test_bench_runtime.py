"""Time of inference alone and of a step in onnxruntime, side by side, for pytest-benchmark. Not part of the tests.

    pytest benchmarks/test_bench_runtime.py                                       a table, fastest first
    pytest benchmarks/test_bench_runtime.py -k running --benchmark-autosave
    pytest benchmarks/test_bench_runtime.py --benchmark-compare --benchmark-compare-fail=median:5%

One case runs after the other here; ratios that drift of the machine cannot bend come from `ecotta-bench --latency`,
where contestants take turns. Bundles come from `benchmarks/export_networks.py`, or are made once, into the cache.
Environment: ECOTTA_BENCH_ONNX_BATCH (1) and ECOTTA_BENCH_THREADS (1).
"""

import os
import sys

import numpy as np
import pytest

from ecotta_rt.bench.bundles import BundleOrder, ForwardOrder, graph_for
from ecotta_rt.bench.exporting import bundle_for, forward_for
from ecotta_rt.bench.inference_session import fastest_forward
from ecotta_rt.bench.network_files import find_network
from ecotta_rt.bench.onnx_steps import to_floats
from ecotta_rt.bundle import read_bundle
from ecotta_rt.data.fashion_mnist import CLASSES
from ecotta_rt.errors import EcottaError
from ecotta_rt.options import SessionOptions
from ecotta_rt.runtime.engine import Runtime

BATCH = int(os.environ.get("ECOTTA_BENCH_ONNX_BATCH", "1"))
THREADS = int(os.environ.get("ECOTTA_BENCH_THREADS", "1"))
ROUNDS = 30 if BATCH < 8 else 5
GROUP = f"wrn-40-2 in onnxruntime, batch {BATCH}, threads {THREADS}"

FAST, EXTENDED = {"fast": True}, {"options": SessionOptions(THREADS, optimisation="extended")}
CASES = {  # id -> normalisation, what `Runtime` is given
    "source": ("source", {}),
    "source-fast": ("source", FAST),
    "source-extended": ("source", EXTENDED),
    "running": ("running", {}),
    "running-fast": ("running", FAST),
    "running-extended": ("running", EXTENDED),
    "running-frame-by-frame": ("running", {"frame_by_frame": True}),
    "batch": ("batch", {}),
}


def say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


@pytest.fixture(scope="module")
def files():
    try:
        return find_network("wrn-40-2", "fashion-mnist")
    except EcottaError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def frames():
    return np.random.default_rng(0).integers(0, 256, (BATCH, 32, 32, 3), np.uint8)


@pytest.fixture(scope="module")
def bundle_of(files):
    def find(normalisation: str, frame_by_frame: bool = False):
        if normalisation == "batch" and BATCH == 1:
            pytest.skip("one frame has no batch statistics")
        order = BundleOrder(
            network=str(files.network),
            warmed=str(files.beside("ecotta-k4")),
            normalisation=normalisation,
            gradient="exact",
            batches=(1,) if frame_by_frame else (BATCH,),
            frame_by_frame=frame_by_frame,
            fast=False,
            classes=CLASSES,
        )
        return read_bundle(bundle_for(order, say))

    return find


@pytest.mark.benchmark(group=GROUP)
def test_forward_alone(benchmark, files, frames):
    path = forward_for(ForwardOrder(str(files.network), BATCH), say)
    forward, options, _ = fastest_forward(path, THREADS, to_floats(frames))

    benchmark.pedantic(forward, (to_floats(frames),), rounds=ROUNDS, warmup_rounds=2)

    benchmark.extra_info.update(options, ms_per_frame=1e3 * benchmark.stats.stats.median / BATCH)


@pytest.mark.benchmark(group=GROUP)
@pytest.mark.parametrize("case", CASES)
def test_step(benchmark, bundle_of, frames, case):
    normalisation, given = CASES[case]
    bundle = bundle_of(normalisation, given.get("frame_by_frame", False))
    if given.get("fast") and graph_for(bundle.manifest, "step", BATCH, fast=True) is None:
        pytest.skip(f"{bundle.path.name} has no fast step")
    runtime = Runtime(bundle, batch=BATCH, **{"options": SessionOptions(THREADS), **given})

    benchmark.pedantic(runtime, (frames,), rounds=ROUNDS, warmup_rounds=2)

    benchmark.extra_info["ms_per_frame"] = 1e3 * benchmark.stats.stats.median / BATCH


@pytest.mark.benchmark(group=GROUP)
@pytest.mark.parametrize("normalisation", ["source", "running", "batch"])
def test_predict(benchmark, bundle_of, frames, normalisation):
    runtime = Runtime(bundle_of(normalisation), batch=BATCH, adapt=False, options=SessionOptions(THREADS))

    benchmark.pedantic(runtime.predict, (frames,), rounds=ROUNDS, warmup_rounds=2)

    benchmark.extra_info["ms_per_frame"] = 1e3 * benchmark.stats.stats.median / BATCH
