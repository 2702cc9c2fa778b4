"""Time of one step of a method, side by side in one process, for pytest-benchmark. Not part of the tests.

    pytest benchmarks/test_bench_step.py                                       a table, fastest first
    pytest benchmarks/test_bench_step.py -k "tent or ecotta" --benchmark-autosave
    pytest benchmarks/test_bench_step.py --benchmark-compare --benchmark-compare-fail=median:5%

The frames are noise, so only methods are here whose step takes the same time on any image. EATA, which learns from the
frames it chooses, and CoTTA, whose teacher looks once or 32 times, are measured by `ecotta-bench --memory`: on real
images, and in a process for each method. Environment: ECOTTA_BENCH_BATCH (64) and ECOTTA_BENCH_THREADS (all cores).
"""

import os
from pathlib import Path

import pytest
import torch

from ecotta_rt.bench.network_files import find_network
from ecotta_rt.bench.peers import METHODS, build_method
from ecotta_rt.bench.peers.forward_time import fold_norms
from ecotta_rt.bench.peers.memory_format import to_memory_format
from ecotta_rt.errors import EcottaError
from ecotta_rt.machine.this_machine import usable_cores
from ecotta_rt.options import StepOptions
from ecotta_rt.prepare.checkpoint import load_network
from ecotta_rt.state import AdaptState

BATCH = int(os.environ.get("ECOTTA_BENCH_BATCH", "64"))
ROUNDS = 5
CASES = {  # id -> method, EcoTTA's options
    **{name: (name, {}) for name, entry in METHODS.items() if not entry.takes},
    "ecotta-k4-exact": ("ecotta-k4", {}),
    "ecotta-k4-constant": ("ecotta-k4", {"frozen_gradient": "constant"}),
    "ecotta-k4-running": ("ecotta-k4", {"normalisation": "running"}),
    "ecotta-k4-warmed": ("ecotta-k4-warmed", {}),
}


@pytest.fixture(scope="module", autouse=True)
def threads():
    """The asked number of threads while this file runs."""
    before = torch.get_num_threads()
    torch.set_num_threads(int(os.environ.get("ECOTTA_BENCH_THREADS", usable_cores())))
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def files():
    try:
        return find_network("wrn-40-2", "fashion-mnist")
    except EcottaError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def frames():
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(BATCH, 3, 32, 32, generator=generator)
    return noise.contiguous(memory_format=torch.channels_last)


def warmed(path: Path) -> AdaptState:
    if not path.is_file():
        pytest.skip(f"{path} is missing")
    return AdaptState.load(path)


@pytest.mark.benchmark(group=f"wrn-40-2, batch {BATCH}")
def test_forward_alone(benchmark, files, frames):
    network = to_memory_format(fold_norms(load_network(files.network), frames), "channels_last")

    with torch.inference_mode():
        benchmark.pedantic(network, (frames,), rounds=ROUNDS, warmup_rounds=1)


@pytest.mark.benchmark(group=f"wrn-40-2, batch {BATCH}")
@pytest.mark.parametrize("case", CASES)
def test_step(benchmark, files, frames, case):
    name, options = CASES[case]
    needs = {}
    if "warmed" in METHODS[name].takes:
        needs = {"warmed": warmed(files.beside("ecotta-k4")), "step_options": StepOptions(**options)}
    network = to_memory_format(load_network(files.network), "channels_last")
    method = build_method(name, network, classes=10, **needs)

    benchmark.pedantic(method, (frames,), rounds=ROUNDS, warmup_rounds=1)

    benchmark.extra_info["ms_per_frame"] = 1e3 * benchmark.stats.stats.median / BATCH
