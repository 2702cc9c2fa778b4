"""Which operators a step spends its time in, and how much of it even the convolutions alone take.

    python benchmarks/export_networks.py wrn-40-2-fashion-mnist
    python benchmarks/profile_operators.py         a minute; writes benchmarks/results/operators.json
    python benchmarks/render_results.py            and the table of docs/graph-passes.md from it

onnxruntime's own profiler times each node of a step, torch's each operator of TENT in its fastest layout; one thread.
Times are in units of the fastest inference-only graph, timed in turn with the steps. Every step of ours starts from the
bundle's state, with frames of which some pass the gate.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch.profiler import ProfilerActivity, profile

from confident_frames import confident_batch
from ecotta_rt.bench.bundles import ForwardOrder
from ecotta_rt.bench.environment import read_environment
from ecotta_rt.bench.exporting import forward_for
from ecotta_rt.bench.inference_session import Forward, fastest_forward
from ecotta_rt.bench.peers import build_method
from ecotta_rt.bench.peers.memory_format import to_memory_format
from ecotta_rt.bundle import read_bundle
from ecotta_rt.prepare.checkpoint import load_network
from ecotta_rt.runtime.session import SessionOptions, session_settings
from ecotta_rt.whole_file import write_whole
from session_process import opened_session

HERE = Path(__file__).parent
TRAINED = HERE / "networks" / "wrn-40-2-fashion-mnist.safetensors"
CASES = (  # normalisation of the bundle, graph, batch
    ("running", "step-1", 1),
    ("source", "step-1", 1),
    ("source", "step-64", 64),
    ("batch-constant", "step-64", 64),
    ("batch", "step-64", 64),
    ("batch", "step-64-fast", 64),
)
STEPS = {1: 40, 64: 5}
TENT_BATCH = 64
OPERATORS_KEPT = 12

GROUPS = ("convolutions", "products", "layouts", "norms and sums", "masks", "rest")
"""`products` are gradients of learned weights, `layouts` the ways into a kernel's own layout and out of it."""
OF_ONNX = {
    **dict.fromkeys(("Conv", "FusedConv", "ConvTranspose"), "convolutions"),
    **dict.fromkeys(("MatMul", "FusedMatMul", "Gemm"), "products"),
    **dict.fromkeys(("ReorderInput", "ReorderOutput", "Transpose"), "layouts"),
    **dict.fromkeys(("BatchNormalization", "ReduceSum", "ReduceMean"), "norms and sums"),
    **dict.fromkeys(("Where", "Greater", "Relu", "Cast", "Sign"), "masks"),
}
OF_TORCH = (  # the first that stands in an operator's name
    ("convolution", "convolutions"),
    ("batch_norm", "norms and sums"),
    ("sum", "norms and sums"),
    ("mean", "norms and sums"),
    ("threshold", "masks"),
    ("relu", "masks"),
    ("clamp", "masks"),
    ("contiguous", "layouts"),
    ("copy", "layouts"),
    ("addmm", "products"),
    ("mm", "products"),
)
Floats = NDArray[np.float32]


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "operators.json")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    frames = {
        batch: as_floats(confident_batch(bundle_path("batch" if batch > 1 else "running"), batch)) for batch in STEPS
    }
    forwards = {batch: forward_of(batch, frames[batch]) for batch in STEPS}
    rows = []
    for normalisation, graph, batch in CASES:
        seconds, forward_s = profiled_graph(normalisation, graph, forwards[batch], frames[batch])
        rows.append(row("onnx", "ecotta-k4", normalisation, graph, batch, seconds, forward_s))
    seconds, forward_s = profiled_tent(forwards[TENT_BATCH], frames[TENT_BATCH])
    rows.append(row("torch", "tent", "batch", "", TENT_BATCH, seconds, forward_s))
    environment = asdict(read_environment(1))
    report = {"measured": "operators", "environment": environment, "network": TRAINED.stem, "rows": rows}
    write_whole(args.out, (json.dumps(report, indent=1) + "\n").encode())
    return 0


def bundle_path(normalisation: str) -> Path:
    return HERE / "bundles" / f"{TRAINED.stem}.ecotta-k4.{normalisation}.ecotta"


def as_floats(frames: NDArray[np.uint8]) -> Floats:
    return np.ascontiguousarray(frames.transpose(0, 3, 1, 2), np.float32) / np.float32(255)


def forward_of(batch: int, frames: Floats) -> Forward:
    path = forward_for(ForwardOrder(str(TRAINED), batch), lambda line: print(line, file=sys.stderr))
    return fastest_forward(path, 1, frames)[0]


def timed_s(forward: Forward, frames: Floats) -> float:
    started_s = time.perf_counter()
    forward(frames)
    return time.perf_counter() - started_s


def profiled_graph(normalisation: str, graph: str, forward: Forward, frames: Floats) -> tuple[dict[str, float], float]:
    """Seconds of a step by operator, and of a forward pass: medians."""
    bundle = read_bundle(bundle_path(normalisation))
    layout = bundle.manifest.layout
    vectors = zip(("parameters", "momentum", "statistics"), layout.pack(bundle.initial_state()), strict=True)
    values = {**dict(vectors), "frames": frames}
    with tempfile.TemporaryDirectory() as folder:
        settings = session_settings(SessionOptions(), len(frames))
        settings.enable_profiling, settings.profile_file_prefix = True, f"{folder}/profile"
        session = opened_session(onnxruntime, bundle, graph, settings, {}, copied=False)
        feeds = {port.name: values[port.name] for port in session.get_inputs()}
        forwards_s = []
        for _ in range(1 + STEPS[len(frames)]):
            session.run(None, feeds)
            forwards_s.append(timed_s(forward, frames))
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    times: dict[tuple[str, str], list[float]] = {}
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            times.setdefault((event["name"], event["args"]["op_name"]), []).append(event["dur"] * 1e-6)
    seconds: dict[str, float] = {}
    for (_, operator), durations in times.items():
        seconds[operator] = seconds.get(operator, 0.0) + statistics.median(durations)
    return seconds, statistics.median(forwards_s)


def profiled_tent(forward: Forward, frames: Floats) -> tuple[dict[str, float], float]:
    """The same of torch's TENT; means of its operators, since torch adds them up itself."""
    batch = torch.from_numpy(frames).to(memory_format=torch.channels_last)
    tent = build_method("tent", to_memory_format(load_network(TRAINED), "channels_last"), classes=10)
    tent(batch)
    forwards_s, steps = [], STEPS[len(frames)]
    with profile(activities=[ProfilerActivity.CPU], acc_events=True) as profiler:
        for _ in range(steps):
            tent(batch)
            forwards_s.append(timed_s(forward, frames))
    averages = profiler.key_averages()
    return {one.key: one.self_cpu_time_total * 1e-6 / steps for one in averages}, statistics.median(forwards_s)


def row(
    engine: str, method: str, normalisation: str, graph: str, batch: int, seconds: dict[str, float], forward_s: float
) -> dict[str, Any]:
    groups = dict.fromkeys(GROUPS, 0.0)
    for operator, spent_s in seconds.items():
        groups[group_of(engine, operator)] += spent_s / forward_s
    largest = sorted(seconds.items(), key=lambda one: -one[1])[:OPERATORS_KEPT]
    found = {
        "engine": engine,
        "method": method,
        "normalisation": normalisation,
        "graph": graph,
        "batch": batch,
        "forward_ms": round(1e3 * forward_s, 3),
        "over_forward": {name: round(share, 3) for name, share in groups.items()},
        "largest_operators_over_forward": {name: round(spent / forward_s, 3) for name, spent in largest},
    }
    print(found, flush=True)
    return found


def group_of(engine: str, operator: str) -> str:
    if engine == "onnx":
        return OF_ONNX.get(operator, "rest")
    return next((group for part, group in OF_TORCH if part in operator), "rest")


if __name__ == "__main__":
    sys.exit(main())
