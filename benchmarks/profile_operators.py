"""Which operators a step spends its time in, and how much of it even the convolutions alone take.

    python benchmarks/export_networks.py wrn-40-2-fashion-mnist
    python benchmarks/profile_operators.py         two minutes; writes benchmarks/results/operators.json
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
from collections.abc import Callable
from dataclasses import asdict, dataclass
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
from ecotta_rt.files.atomic import write_atomic
from ecotta_rt.options import SessionOptions
from ecotta_rt.prepare.checkpoint import load_network
from ecotta_rt.session.opening import session_settings
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
TURNS = {1: 40, 64: 5}
TENT_BATCH = 64
OPERATORS_KEPT = 12

GROUPS = ("convolutions", "matrix products", "layouts", "norms and sums", "ReLUs and masks", "rest")
"""By operator, not by purpose: the products are those of weight gradients, but cutting the inputs for them is in the
rest, and so is most of our norms' backward. `layouts` are onnxruntime's reorders; torch's convolutions hold theirs."""
OF_ONNX = {
    **dict.fromkeys(("Conv", "FusedConv", "ConvTranspose"), "convolutions"),
    **dict.fromkeys(("MatMul", "FusedMatMul", "Gemm"), "matrix products"),
    **dict.fromkeys(("ReorderInput", "ReorderOutput", "Transpose"), "layouts"),
    **dict.fromkeys(("BatchNormalization", "ReduceSum", "ReduceMean"), "norms and sums"),
    **dict.fromkeys(("Where", "Greater", "Relu", "Cast", "Sign"), "ReLUs and masks"),
}
OF_TORCH = (  # the first that stands in an operator's name
    ("convolution", "convolutions"),
    ("batch_norm", "norms and sums"),
    ("sum", "norms and sums"),
    ("mean", "norms and sums"),
    ("threshold", "ReLUs and masks"),
    ("relu", "ReLUs and masks"),
    ("clamp", "ReLUs and masks"),
    ("contiguous", "layouts"),
    ("copy", "layouts"),
    ("mm", "matrix products"),
)
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Profile:
    """Of one step.

    Attributes:
        seconds: Operator -> what all its calls took, under a profiler.
        forward_s: The fastest inference-only forward, in turn with those steps.
        step_over_forward: A whole step over such a forward, in turn with it, without a profiler.
    """

    seconds: dict[str, float]
    forward_s: float
    step_over_forward: float


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "operators.json")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    frames = {
        batch: as_floats(confident_batch(bundle_path("batch" if batch > 1 else "running"), batch)) for batch in TURNS
    }
    forwards = {batch: forward_of(batch, frames[batch]) for batch in TURNS}
    rows = []
    for normalisation, graph, batch in CASES:
        found = profiled_graph(normalisation, graph, forwards[batch], frames[batch])
        rows.append(row("onnx", normalisation, graph, batch, found))
    found = profiled_tent(forwards[TENT_BATCH], frames[TENT_BATCH])
    rows.append(row("torch", "batch", "TENT", TENT_BATCH, found))
    environment = asdict(read_environment(1))
    report = {"measured": "operators", "environment": environment, "network": TRAINED.stem, "rows": rows}
    write_atomic(args.out, (json.dumps(report, indent=1) + "\n").encode())
    return 0


def bundle_path(normalisation: str) -> Path:
    return HERE / "bundles" / f"{TRAINED.stem}.ecotta-k4.{normalisation}.ecotta"


def as_floats(frames: NDArray[np.uint8]) -> Floats:
    return np.ascontiguousarray(frames.transpose(0, 3, 1, 2), np.float32) / np.float32(255)


def forward_of(batch: int, frames: Floats) -> Forward:
    path = forward_for(ForwardOrder(str(TRAINED), batch), lambda line: print(line, file=sys.stderr))
    return fastest_forward(path, 1, frames)[0]


def timed_s(run: Callable[[], object]) -> float:
    started_s = time.perf_counter()
    run()
    return time.perf_counter() - started_s


def in_turn(step: Callable[[], object], forward: Callable[[], object], turns: int) -> tuple[float, float]:
    """Seconds of a step and of a forward pass, medians of turns; the first is not counted."""
    times = [(timed_s(step), timed_s(forward)) for _ in range(1 + turns)][1:]
    return statistics.median(step_s for step_s, _ in times), statistics.median(forward_s for _, forward_s in times)


def profiled_graph(normalisation: str, graph: str, forward: Forward, frames: Floats) -> Profile:
    """Each node's median, added up by operator."""
    bundle = read_bundle(bundle_path(normalisation))
    layout = bundle.manifest.layout
    vectors = zip(("parameters", "momentum", "statistics"), layout.pack(bundle.initial_state()), strict=True)
    values = {**dict(vectors), "frames": frames}

    def opened(prefix: str | None) -> tuple[Any, Callable[[], object]]:
        settings = session_settings(SessionOptions(), len(frames))
        if prefix is not None:
            settings.enable_profiling, settings.profile_file_prefix = True, prefix
        session = opened_session(onnxruntime, bundle, graph, settings, {}, copied=False)
        feeds = {port.name: values[port.name] for port in session.get_inputs()}
        return session, lambda: session.run(None, feeds)

    turns = TURNS[len(frames)]
    wall_s, pace_s = in_turn(opened(None)[1], lambda: forward(frames), turns)
    with tempfile.TemporaryDirectory() as folder:
        session, step = opened(f"{folder}/profile")
        _, forward_s = in_turn(step, lambda: forward(frames), turns)
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    times: dict[tuple[str, str], list[float]] = {}
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            times.setdefault((event["name"], event["args"]["op_name"]), []).append(event["dur"] * 1e-6)
    seconds: dict[str, float] = {}
    for (_, operator), durations in times.items():
        seconds[operator] = seconds.get(operator, 0.0) + statistics.median(durations)
    return Profile(seconds, forward_s, wall_s / pace_s)


def profiled_tent(forward: Forward, frames: Floats) -> Profile:
    """Means, since torch adds its operators up itself."""
    batch = torch.from_numpy(frames).to(memory_format=torch.channels_last)
    tent = build_method("tent", to_memory_format(load_network(TRAINED), "channels_last"), classes=10)
    turns = TURNS[len(frames)]
    wall_s, pace_s = in_turn(lambda: tent(batch), lambda: forward(frames), turns)
    with profile(activities=[ProfilerActivity.CPU], acc_events=True) as profiler:
        _, forward_s = in_turn(lambda: tent(batch), lambda: forward(frames), turns)
    seconds = {one.key: one.self_cpu_time_total * 1e-6 / (1 + turns) for one in profiler.key_averages()}
    return Profile(seconds, forward_s, wall_s / pace_s)


def row(engine: str, normalisation: str, graph: str, batch: int, found: Profile) -> dict[str, Any]:
    """What the results hold; times in forward passes."""
    groups = dict.fromkeys(GROUPS, 0.0)
    for operator, spent_s in found.seconds.items():
        groups[group_of(engine, operator)] += spent_s / found.forward_s
    largest = sorted(found.seconds.items(), key=lambda one: -one[1])[:OPERATORS_KEPT]
    told = {
        "engine": engine,
        "normalisation": normalisation,
        "graph": graph,
        "batch": batch,
        "turns": TURNS[batch],
        "forward_ms": round(1e3 * found.forward_s, 3),
        "over_forward": {name: round(share, 3) for name, share in groups.items()},
        "step_over_forward": round(found.step_over_forward, 3),
        "largest_operators_over_forward": {name: round(spent_s / found.forward_s, 3) for name, spent_s in largest},
    }
    print(told, flush=True)
    return told


def group_of(engine: str, operator: str) -> str:
    if engine == "onnx":
        return OF_ONNX.get(operator, "rest")
    return next((group for part, group in OF_TORCH if part in operator.lower()), "rest")


if __name__ == "__main__":
    sys.exit(main())
