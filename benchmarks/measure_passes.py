"""What each graph pass is worth: the step with all passes against the step without one of them.

    python benchmarks/measure_passes.py            writes benchmarks/results/passes.json; some 6 minutes
    python benchmarks/render_results.py            and the table of docs/graph-passes.md from it

For each graph and pass: nodes, planned peak of live tensors, activations, bytes of weights, and the time of a step, in
milliseconds and as a ratio; the two graphs take turns, so that a machine that slows down does so for both. Beside the
passes stand the two recomputations, which are choices of the step itself, and `skip_backward`, timed on a frame that
passes the gate and on one that does not. Frames are of the embedded sample.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime
import torch
from numpy.typing import NDArray

from ecotta_rt.bench.environment import read_environment
from ecotta_rt.bundle import StateLayout, place_weights
from ecotta_rt.data.stream import open_stream
from ecotta_rt.exporter.export import PASSES, build_graph
from ecotta_rt.exporter.frozen_weights import FrozenWeights
from ecotta_rt.exporter.liveness import live_bytes
from ecotta_rt.exporter.passes.keep_weights_once import keep_weights_once
from ecotta_rt.exporter.passes.masks import choose_masks
from ecotta_rt.exporter.passes.skip_backward import skip_backward
from ecotta_rt.exporter.request import GraphRequest
from ecotta_rt.files.atomic import write_atomic
from ecotta_rt.method.attach import attach
from ecotta_rt.method.cut.partition import partition
from ecotta_rt.method.state import to_adapt_state, to_step_state
from ecotta_rt.options import SessionOptions, StepOptions
from ecotta_rt.prepare.checkpoint import load_network
from ecotta_rt.session.opening import session_settings
from ecotta_rt.state import AdaptState

HERE = Path(__file__).parent
TRAINED = HERE / "networks" / "wrn-40-2-fashion-mnist.safetensors"
PARTS = 4
GRAPHS = (("running", 1, 100), ("source", 1, 100), ("batch", 64, 8))  # normalisation, batch, turns
Floats = NDArray[np.float32]


class Measured:
    """One graph in a session: its sizes, and a function that runs it once.

    Args:
        model: Taken apart here.
        vectors: Name of a port -> what it is fed.
        batch: Frames a run.
        finish: A last rewriting that hides tensors in a nested graph, so that they cannot be counted.
    """

    def __init__(
        self, model: ir.Model, vectors: dict[str, Floats], batch: int, finish: Callable[[ir.Model], None] | None = None
    ) -> None:
        memory, weights = live_bytes(model) if finish is None else None, FrozenWeights({})
        if finish is not None:
            finish(model)
        weights.collect(model)
        self.facts = {
            "nodes": sum(1 for _ in ir.traversal.RecursiveGraphIterator(model.graph)),
            "step_peak_bytes": None if memory is None else memory.peak_bytes,
            "activation_bytes": None if memory is None else memory.activation_bytes,
            "weights_bytes": sum(array.nbytes for array in weights.arrays.values()),
        }
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "step.onnx"
            path.write_bytes(weights.move_out(model))
            (path.parent / "weights.bin").write_bytes(packed(weights))
            self._session = onnxruntime.InferenceSession(
                str(path), session_settings(SessionOptions(), batch), enable_fallback=0
            )
        self._feeds = {port.name: vectors[port.name] for port in self._session.get_inputs() if port.name != "frames"}

    def learns(self, frames: Floats) -> bool:
        """Whether one of these frames passes the gate; float32 `[N, 3, H, W]`."""
        (kept,) = self._session.run(["kept"], {**self._feeds, "frames": frames})
        return bool(kept.any())

    def seconds(self, frames: Floats) -> float:
        """Of one run."""
        start = time.perf_counter()
        self._session.run(None, {**self._feeds, "frames": frames})
        return time.perf_counter() - start


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "passes.json")
    args = parser.parse_args(argv)
    rows = []
    for normalisation, batch, turns in GRAPHS:
        for row in rows_of(normalisation, batch, turns):
            rows.append(row)
            print(row, flush=True)
    report = {"measured": "passes", "network": TRAINED.stem, "environment": asdict(read_environment(1)), "rows": rows}
    write_atomic(args.out, (json.dumps(report, indent=1) + "\n").encode())
    return 0


def rows_of(normalisation: str, batch: int, turns: int) -> Iterator[dict[str, Any]]:
    """A row for each pass and each choice that can be left out of this step."""
    network = attach(partition(load_network(TRAINED).eval(), torch.zeros(1, 3, 32, 32), PARTS))
    state = AdaptState.load(TRAINED.with_suffix(".ecotta-k4.safetensors"))
    start = to_step_state(network, state)
    layout = StateLayout.of(to_adapt_state(start, ""))
    vectors = dict(zip(("parameters", "momentum", "statistics"), layout.pack(to_adapt_state(start, "")), strict=True))
    options = StepOptions(normalisation=normalisation, lr_batch=64)  # type: ignore[arg-type]

    def made(
        without: Callable[..., None] | None = None,
        fast: bool = False,
        finish: Callable[[ir.Model], None] | None = None,
        **changes: Any,
    ) -> Measured:
        passes = [one for one in PASSES if one is not without]
        request = GraphRequest(f"step-{batch}", "step", batch, fast=fast)
        model = build_graph(network, start, replace(options, **changes), request, passes)
        return Measured(model, vectors, batch, finish)

    def row(name: str, whole: Measured, without: Measured, frames: Floats, kind: str = "") -> dict[str, Any]:
        for graph in (whole, without):
            graph.seconds(frames)  # the first run sets the arena up
        times = [(without.seconds(frames), whole.seconds(frames)) for _ in range(turns)]
        return {
            "graph": f"{normalisation}, {batch} frame{'s' * (batch > 1)}{kind}",
            "pass": name,
            **{f"{key}_with": value for key, value in whole.facts.items()},
            **{f"{key}_without": value for key, value in without.facts.items()},
            "turns": turns,
            "ms_with": round(1e3 * statistics.median(whole_s for _, whole_s in times), 3),
            "ms_without": round(1e3 * statistics.median(without_s for without_s, _ in times), 3),
            "time_without_over_with": round(statistics.median(less / all_ for less, all_ in times), 3),
        }

    whole = made()
    learnt = next(frames for frames in batches(batch) if whole.learns(frames))
    for left_out in PASSES:
        if left_out is not choose_masks:  # without it there is no graph
            yield row(left_out.__name__, whole, made(left_out), learnt)
    if batch == 1:
        refused = next(frames for frames in batches(batch) if not whole.learns(frames))
        fast = made(fast=True)
        yield row(
            "keep_weights_once, every other one", fast, made(without=keep_weights_once, fast=True), learnt, ", fast"
        )
        skipping = made(fast=True, finish=skip_backward)
        yield row("skip_backward, the frame learns", skipping, fast, learnt, ", fast")
        yield row("skip_backward, the frame is refused", skipping, fast, refused, ", fast")
    if normalisation == "batch":
        yield row("recomputation of the parts", whole, made(keep_parts=PARTS), learnt)
        yield row("recomputation of the meta convolutions", whole, made(recompute_meta=False), learnt)


def batches(batch: int) -> Iterator[Floats]:
    """Frames of the embedded sample, float32 `[batch, 3, H, W]` in [0, 1]: some pass the gate, some do not."""
    (segment,) = open_stream(frames=500, corruptions=("contrast",), severity=3).segments
    for at in range(0, 500 - batch + 1, batch):
        frames = segment.frames[at : at + batch].transpose(0, 3, 1, 2)
        yield np.ascontiguousarray(frames, np.float32) / np.float32(255)


def packed(weights: FrozenWeights) -> bytes:
    content = bytearray()
    for entry in place_weights({name: array.shape for name, array in weights.arrays.items()}):
        content += bytes(entry.offset - len(content)) + np.ascontiguousarray(weights.arrays[entry.name]).tobytes()
    return bytes(content)


if __name__ == "__main__":
    sys.exit(main())
