"""What learning brings to a network that was not warmed up: our groups, our groups and norms, TENT and EATA.

    python benchmarks/measure_learning.py resnet-56 --checkpoint resnet56.th --data cifar-10-batches-bin --tune
    python benchmarks/measure_learning.py resnet-56 --checkpoint resnet56.th --data cifar-10-batches-bin

First every step size of every method is tried on corrupted training images, which no seed of the second call plays.
Then each method goes with its best one over corrupted test images, once for each seed. Batch statistics, batches of 64,
severity 5, 15 corruptions one after the other, nothing is ever reset. Beside the errors stands what a step keeps for
its backward pass. Written to benchmarks/results/learning.json after every row; what is there is not run again. Some two
hours on a quiet core.
"""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ecotta_rt.bench.environment import read_environment
from ecotta_rt.bench.network_files import sha256_of
from ecotta_rt.bench.peers.bn import BatchNormStatistics
from ecotta_rt.bench.peers.eata import Eata
from ecotta_rt.bench.peers.ecotta import Ecotta
from ecotta_rt.bench.peers.memory_format import to_memory_format
from ecotta_rt.bench.peers.peer import Peer
from ecotta_rt.bench.peers.tent import Tent
from ecotta_rt.data.corruptions import CORRUPTIONS, corrupt
from ecotta_rt.data.stream import Segment, open_stream, source_frames
from ecotta_rt.files.atomic import write_atomic
from ecotta_rt.method.attach import attach
from ecotta_rt.method.cut.partition import partition
from ecotta_rt.options import NORMS_STEP, StepOptions
from ecotta_rt.prepare.identity import identity_state
from ecotta_rt.prepare.open_network import open_network
from ecotta_rt.prepare.pipeline import default_kernel
from ecotta_rt.profile.profiler import profile_step
from measure_starts import as_floats, read_rows

BATCH, SEVERITY, PARTS = 64, 5, 4
STEP_SIZES = {
    "batch statistics": (0.0,),
    "tent": (5e-4, 1e-3, 2e-3, 4e-3),
    "eata": (2.5e-3, 5e-3, 1e-2, 2e-2),
    "groups": (5e-3, 5e-2),
    "norms": (5e-4, 1e-3, 2e-3, 4e-3),
}
"""Method -> step sizes that are tried; `groups` and `norms` are ours, see `ecotta prepare --learn`."""

TUNING_SEED, SEEN_BY_EATA = 1000, 2000
"""The streams' seeds are small numbers. EATA gets clean training images of which none is played corrupted."""


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", help="model id, or FILE.py:FACTORY")
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True, help="the binary version of CIFAR-10")
    parser.add_argument("--methods", nargs="*", choices=[*STEP_SIZES], default=[*STEP_SIZES])
    parser.add_argument("--tune", action="store_true", help="try the step sizes, on training images")
    parser.add_argument("--corruptions", nargs="*", choices=CORRUPTIONS, default=list(CORRUPTIONS))
    parser.add_argument("--frames", type=int, default=1000, help="a corruption (1000)")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "learning.json")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    origin = about(args)
    rows = read_rows(args.out, origin)  # what would be refused is refused now
    if args.tune:
        segments = training_segments(args)
        for method in args.methods:
            for step_size in STEP_SIZES[method]:
                measure(args, origin, method, step_size, None, segments)
        return 0
    step_sizes = {method: best_step_size(rows, method) for method in args.methods}
    for seed in args.seeds:
        stream = open_stream(args.data, corruptions=args.corruptions, severity=SEVERITY, frames=args.frames, seed=seed)
        for method, step_size in step_sizes.items():
            measure(args, origin, method, step_size, seed, stream.segments)
    return 0


def about(args: argparse.Namespace) -> dict[str, Any]:
    """What all rows of a file have in common."""
    stream = {"corruptions": args.corruptions, "frames": args.frames, "severity": SEVERITY, "batch": BATCH}
    return {"network": args.network, "checkpoint": sha256_of(args.checkpoint), "parts": PARTS, "stream": stream}


def training_segments(args: argparse.Namespace) -> list[Segment]:
    frames, labels = source_frames(args.data, SEEN_BY_EATA + args.frames, TUNING_SEED)
    played, labels = frames[SEEN_BY_EATA:], labels[SEEN_BY_EATA:]
    return [
        Segment(name, corrupt(played, name, severity=SEVERITY, seed=TUNING_SEED), labels) for name in args.corruptions
    ]


def best_step_size(rows: dict[str, dict[str, Any]], method: str) -> float:
    tried = [row for row in rows.values() if row["method"] == method and row["seed"] is None]
    if len(tried) < len(STEP_SIZES[method]):
        raise SystemExit(f"{method}: {len(tried)} of {len(STEP_SIZES[method])} step sizes were tried; run --tune first")
    return float(min(tried, key=lambda row: row["error_percent"])["step_size"])


def maker(method: str, step_size: float, args: argparse.Namespace) -> Callable[[], Peer]:
    """What makes the method anew, at its start."""
    network = to_memory_format(open_network(args.network, checkpoint=args.checkpoint).eval(), "channels_last")
    if method == "batch statistics":
        return lambda: BatchNormStatistics(network)
    if method == "tent":
        return lambda: Tent(network, learning_rate=step_size)
    if method == "eata":
        clean = as_floats(source_frames(args.data, SEEN_BY_EATA, TUNING_SEED)[0])
        return lambda: Eata(network, source_frames=clean, learning_rate=step_size)
    return lambda: ours(network, method == "norms", step_size, default_kernel(args.network))


def ours(network: nn.Module, norms_learn: bool, step_size: float, kernel: int) -> Peer:
    torch.manual_seed(0)
    pieces = partition(network, torch.zeros(1, 3, 32, 32), PARTS)
    start = identity_state(attach(pieces, kernel, norms_learn=norms_learn))
    usual = NORMS_STEP if norms_learn else StepOptions(lr_batch=BATCH)
    return Ecotta(network, parts=PARTS, warmed=start, step_options=replace(usual, normalisation="batch", lr=step_size))


def measure(
    args: argparse.Namespace,
    origin: dict[str, Any],
    method: str,
    step_size: float,
    seed: int | None,
    segments: Sequence[Segment],
) -> None:
    name = f"{method}, step size {step_size:g}, {'training images' if seed is None else f'seed {seed}'}"
    if name in read_rows(args.out, origin):
        return
    make = maker(method, step_size, args)
    first = as_floats(segments[0].frames[:BATCH])
    once = make()
    kept_bytes = profile_step(lambda: once(first)).activation_bytes
    errors = errors_percent(make(), segments)
    row = {
        "method": method,
        "step_size": step_size,
        "seed": seed,
        "error_percent": sum(errors.values()) / len(errors),
        "errors_percent": errors,
        "activation_bytes": kept_bytes,
        "environment": asdict(read_environment(1)),
    }
    print(f"{name}: {row['error_percent']:.2f} %, {kept_bytes / 2**20:.0f} MiB kept", flush=True)
    rows = read_rows(args.out, origin) | {name: row}
    report = {"measured": "learning", "about": origin, "rows": rows}
    write_atomic(args.out, (json.dumps(report, indent=1) + "\n").encode())


def errors_percent(method: Callable[[Tensor], Tensor], segments: Sequence[Segment]) -> dict[str, float]:
    """The error in each corruption of the stream, learning all the way."""
    errors = {}
    for segment in segments:
        pieces = [segment.frames[i : i + BATCH] for i in range(0, len(segment.frames), BATCH)]
        answers = np.concatenate([method(as_floats(piece)).argmax(1).numpy() for piece in pieces])
        errors[segment.corruption] = 100 * float(np.mean(answers != segment.labels))
    return errors


if __name__ == "__main__":
    sys.exit(main())
