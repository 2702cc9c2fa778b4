"""What each graph pass is worth: the step with all passes against the step without one of them.

    python benchmarks/measure_passes.py            writes benchmarks/results/passes.json; at most 3 minutes

For each graph and pass: nodes, planned peak of live tensors, bytes of weights, and the time of a step, in milliseconds
and as a ratio; the two graphs take turns, so that a machine that slows down does so for both.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import torch

from ecotta_rt.bench.environment import read_environment
from ecotta_rt.bundle import StateLayout
from ecotta_rt.prepare.attach import attach
from ecotta_rt.prepare.checkpoint import load_network
from ecotta_rt.prepare.engine import to_adapt_state, to_step_state
from ecotta_rt.prepare.export.exporter import PASSES, GraphRequest, build_graph
from ecotta_rt.prepare.export.frozen_weights import FrozenWeights
from ecotta_rt.prepare.export.liveness import live_bytes
from ecotta_rt.prepare.options import StepOptions
from ecotta_rt.prepare.partition import partition
from ecotta_rt.runtime.session import SessionOptions, session_settings
from ecotta_rt.state import AdaptState

HERE = Path(__file__).parent
TRAINED = HERE / "networks" / "wrn-40-2-fashion-mnist.safetensors"
GRAPHS = (("running", 1, 8), ("source", 1, 8), ("batch", 64, 1))  # normalisation, batch, turns


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "passes.json")
    args = parser.parse_args(argv)
    network = attach(partition(load_network(TRAINED).eval(), torch.zeros(1, 3, 32, 32), 4))
    state = to_step_state(network, AdaptState.load(TRAINED.with_suffix(".ecotta-k4.safetensors")))
    layout = StateLayout.of(to_adapt_state(state, ""))
    vectors = layout.pack(to_adapt_state(state, ""))
    feeds = dict(zip(("parameters", "momentum", "statistics"), vectors, strict=True))
    rows = []
    for normalisation, batch, turns in GRAPHS:
        options = StepOptions(normalisation=normalisation, lr_batch=64)
        feeds["frames"] = np.random.default_rng(0).random((batch, 3, 32, 32), np.float32)

        def make(without: Callable[..., None] | None) -> tuple[dict[str, int], Callable[[], float]]:
            passes = [one for one in PASSES if one is not without]
            request = GraphRequest(f"step-{batch}", "step", batch)  # noqa: B023
            return measured(build_graph(network, state, options, request, passes), feeds)  # noqa: B023

        whole_facts, whole = make(None)
        for left_out in PASSES:
            if left_out.__name__ == "choose_masks":
                continue  # without it there is no graph
            facts, without = make(left_out)
            times = [(without(), whole()) for _ in range(turns)]
            row = {"graph": f"{normalisation}, batch {batch}", "pass": left_out.__name__}
            row |= {f"{key}_with": value for key, value in whole_facts.items()}
            row |= {f"{key}_without": value for key, value in facts.items()}
            row["turns"] = turns
            row["ms_with"] = round(1e3 * statistics.median(whole_s for _, whole_s in times), 3)
            row["ms_without"] = round(1e3 * statistics.median(without_s for without_s, _ in times), 3)
            row["time_without_over_with"] = round(statistics.median(less / all_ for less, all_ in times), 3)
            rows.append(row)
            print(row, flush=True)
    environment = vars(read_environment(1))
    args.out.write_text(json.dumps({"environment": environment, "rows": rows}, indent=1) + "\n", encoding="utf-8")
    return 0


def measured(model: object, feeds: dict[str, np.ndarray]) -> tuple[dict[str, int], Callable[[], float]]:
    """Its sizes, and a function that runs it once and tells the seconds."""
    weights = FrozenWeights({})
    memory = live_bytes(model)
    weights.collect(model)
    stored = sum(array.nbytes for array in weights.arrays.values())
    nodes = len(model.graph)
    settings = session_settings(SessionOptions())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "step.onnx"
        content = weights.move_out(model)
        path.write_bytes(content)
        (path.parent / "weights.bin").write_bytes(packed(weights))
        session = onnxruntime.InferenceSession(str(path), settings)
    wanted = {value.name: feeds[value.name] for value in session.get_inputs()}
    session.run(None, wanted)

    def run() -> float:
        start = time.perf_counter()
        session.run(None, wanted)
        return time.perf_counter() - start

    facts = {
        "nodes": nodes,
        "step_peak_bytes": memory.peak_bytes,
        "activation_bytes": memory.activation_bytes,
        "weights_bytes": stored,
    }
    return facts, run


def packed(weights: FrozenWeights) -> bytes:
    from ecotta_rt.bundle import place_weights

    content = bytearray()
    for entry in place_weights({name: array.shape for name, array in weights.arrays.items()}):
        content += bytes(entry.offset - len(content)) + np.ascontiguousarray(weights.arrays[entry.name]).tobytes()
    return bytes(content)


if __name__ == "__main__":
    sys.exit(main())
