"""Which step size suits each method here, and which lambda EcoTTA: tried on training images, never on test images.

    python benchmarks/tune_step_sizes.py --data $ECOTTA_DATA/cifar-10-batches-bin       some eight hours on one core
    python benchmarks/tune_step_sizes.py --data $ECOTTA_DATA/cifar-10-batches-bin --methods ecotta-k4 --factors 0 0.25 1
    python benchmarks/tune_step_sizes.py --data $ECOTTA_DATA/cifar-10-batches-bin --methods ecotta-k4 --l1-weights 2

Every method has the step size of its paper, chosen for other networks and batches. Here each gets the same factors of
it; with 0 it learns nothing. EcoTTA's other dial is the weight of its L1 term (lambda, 0.5 in the paper). The stream is
as long as the benchmark's, since a short one does not show what learning costs late. It is 15 corruptions at severity 5
of training images that neither EATA nor a seed of the benchmark has seen corrupted; the network was trained on the
clean ones, so errors are far below those on test images: only their order counts, and even that with care, since more
of these frames pass the gate. Written to benchmarks/results/step-sizes.json after every run; what is there already is
not run again. Runs of different rows may write to one file at once.
"""

import argparse
import itertools
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ecotta_rt.bench.adaptation import ADAPTATION, step_options
from ecotta_rt.bench.environment import read_environment
from ecotta_rt.bench.network_files import sha256_of
from ecotta_rt.bench.peers import build_method
from ecotta_rt.bench.peers.memory_format import to_memory_format
from ecotta_rt.data.corruptions import CORRUPTIONS, corrupt
from ecotta_rt.data.stream import source_frames
from ecotta_rt.files.atomic import write_atomic
from ecotta_rt.prepare.checkpoint import load_network
from ecotta_rt.state import AdaptState

HERE = Path(__file__).parent
NETWORK = HERE / "networks" / "wrn-40-2-cifar-10.safetensors"
GROUPS, FINE_TUNED = NETWORK.with_suffix(".ecotta-k4.safetensors"), NETWORK.with_suffix(".fine-tuned.safetensors")
METHODS = ("ecotta-k4", "tent", "tent-fine-tuned", "eata")
L1_WEIGHT = float(ADAPTATION["l1_weight"])
FACTORS = (0.0, 0.1, 0.25, 0.5, 1.0, 2.0)
PAPER = {"ecotta-k4": float(ADAPTATION["lr"]), "tent": 1e-3, "tent-fine-tuned": 1e-3, "eata": 5e-3}
SEED = 1000
"""The benchmark's seeds are small numbers."""
SEEN_BY_EATA = 2000
BATCH, SEVERITY = 64, 5


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the binary version of CIFAR-10")
    parser.add_argument("--methods", nargs="*", choices=METHODS, default=list(METHODS))
    parser.add_argument("--factors", nargs="*", type=float, default=list(FACTORS), help="of the paper's step size")
    parser.add_argument("--l1-weights", nargs="*", type=float, default=[L1_WEIGHT], help="of EcoTTA's L1 term (0.5)")
    parser.add_argument("--frames", type=int, default=5000, help="a corruption (5000)")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "step-sizes.json")
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    origin = about(args.frames)  # now: the files may be others when the first row is written
    clean, labels = source_frames(args.data, SEEN_BY_EATA + args.frames, SEED)
    stream = [corrupt(clean[SEEN_BY_EATA:], name, severity=SEVERITY, seed=SEED) for name in CORRUPTIONS]
    for factor, l1_weight, method in itertools.product(args.factors, args.l1_weights, args.methods):
        if l1_weight != L1_WEIGHT and (method != "ecotta-k4" or not factor):
            continue  # nobody else has one, and who learns nothing does without
        name = f"{method} x {factor:g}" + ("" if l1_weight == L1_WEIGHT else f", lambda {l1_weight:g}")
        if name in read_rows(args.out, origin):
            continue
        started_s = time.monotonic()
        errors = errors_percent(method, factor, l1_weight, stream, labels[SEEN_BY_EATA:], clean[:SEEN_BY_EATA])
        row = {
            "method": method,
            "step_size": factor * PAPER[method],
            "factor": factor,
            "error_percent": sum(errors.values()) / len(errors),
            "errors_percent": errors,
            "environment": asdict(read_environment(args.threads)),
        }
        if method == "ecotta-k4":
            row["l1_weight"] = l1_weight
        print(f"{name}: {row['error_percent']:.2f} %  ({time.monotonic() - started_s:.0f} s)", flush=True)
        # Read again: another run may have written since.
        rows = read_rows(args.out, origin) | {name: row}
        report = {"measured": "step sizes", "about": origin, "rows": rows}
        write_atomic(args.out, (json.dumps(report, indent=1) + "\n").encode())
    return 0


def about(frames: int) -> dict[str, Any]:
    """What all rows of a file have in common."""
    stream = {"corruptions": len(CORRUPTIONS), "frames": frames, "severity": SEVERITY, "seed": SEED}
    # Groups or a control that were warmed up anew make every row another one.
    files = {path.name: sha256_of(path) for path in (NETWORK, GROUPS, FINE_TUNED)}
    return {"network": NETWORK.stem, "files": files, "batch": BATCH, **stream}


def read_rows(path: Path, origin: dict[str, Any]) -> dict[str, dict[str, Any]]:
    if not path.exists():
        return {}
    report: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    rows: dict[str, dict[str, Any]] = report["rows"] if report.get("about") == origin else {}
    return rows


def errors_percent(
    method: str,
    factor: float,
    l1_weight: float,
    stream: list[NDArray[np.uint8]],
    labels: NDArray[np.int64],
    clean: NDArray[np.uint8],
) -> dict[str, float]:
    """The error of a method in each corruption of the stream, adapting all the way."""
    torch.manual_seed(0)
    step_size = factor * PAPER[method]
    options: dict[str, Any] = {"learning_rate": step_size}
    if method == "ecotta-k4":
        warmed = AdaptState.load(GROUPS)
        hyperparameters = {"lr": step_size, "l1_weight": l1_weight}
        options = {"warmed": warmed, "step_options": step_options("batch", "exact", hyperparameters=hyperparameters)}
    elif method == "eata":
        options["source_frames"] = as_floats(clean)
    elif method == "tent-fine-tuned":
        options["fine_tuned"] = channels_last(FINE_TUNED)
    running = build_method(method, channels_last(NETWORK), classes=10, **options)
    errors = {}
    for corruption, frames in zip(CORRUPTIONS, stream, strict=True):
        running.begin_corruption(corruption)
        wrong = 0
        for start in range(0, len(frames), BATCH):
            answers = running(as_floats(frames[start : start + BATCH])).argmax(1).numpy()
            wrong += int((answers != labels[start : start + BATCH]).sum())
        errors[corruption] = 100 * wrong / len(labels)
    return errors


def channels_last(path: Path) -> torch.nn.Module:
    return to_memory_format(load_network(path), "channels_last")


def as_floats(frames: NDArray[np.uint8]) -> torch.Tensor:
    pixels = torch.from_numpy(frames).permute(0, 3, 1, 2)
    return pixels.to(torch.float32, memory_format=torch.channels_last).div_(255)


if __name__ == "__main__":
    sys.exit(main())
