"""What each way to start the meta groups costs and brings: from nothing but a checkpoint, from pictures, from labels.

    python benchmarks/measure_starts.py resnet-56 --checkpoint resnet56.th --data $ECOTTA_DATA/cifar-10-batches-bin

One network, one stream of corrupted test images a seed, batch normalisation and EcoTTA's protocol as in the benchmark.
The seed decides which frames are played, in which order. Each start is made once, from training images with the recipe
of `ecotta prepare`, and played without and with learning. Its cost is in minutes of one core: processor time, which
other work on the machine does not change. Written to benchmarks/results/starts.json after every row; what is there
already is not run again.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ecotta_rt.bench.adaptation import step_options
from ecotta_rt.bench.environment import read_environment
from ecotta_rt.bench.network_files import sha256_of
from ecotta_rt.bench.peers.bn import BatchNormStatistics
from ecotta_rt.bench.peers.ecotta import Ecotta
from ecotta_rt.bench.peers.memory_format import to_memory_format
from ecotta_rt.bench.peers.source import Source
from ecotta_rt.data.stream import Segment, open_stream, source_frames
from ecotta_rt.files.atomic import write_atomic
from ecotta_rt.method.attach import attach
from ecotta_rt.method.cut.partition import partition
from ecotta_rt.prepare.calibrate import frozen_answers
from ecotta_rt.prepare.epochs import WarmUpOptions
from ecotta_rt.prepare.identity import identity_state
from ecotta_rt.prepare.open_network import open_network
from ecotta_rt.prepare.pipeline import default_kernel
from ecotta_rt.prepare.warmup import warm_up
from ecotta_rt.state import AdaptState

STARTS = ("source", "batch statistics", "identity", "self-distilled", "labelled")
TRAINED = STARTS[3:]
PARTS, BATCH, SEVERITY = 4, 64, 5
WARM_UP_SEED = 1000
"""Of the choice of training images; the stream's seeds are small numbers."""


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", help="model id, or FILE.py:FACTORY")
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True, help="the binary version of CIFAR-10")
    parser.add_argument("--starts", nargs="*", choices=STARTS, default=list(STARTS))
    parser.add_argument("--images", type=int, default=20_000, help="training images to start from (20000)")
    parser.add_argument("--epochs", type=int, default=1, help="passes over them (1)")
    parser.add_argument("--frames", type=int, default=320, help="a corruption (320)")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1])
    parser.add_argument("--cache", type=Path, help="folder that keeps corrupted frames")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "starts.json")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    origin = about(args)
    read_rows(args.out, origin)  # what would be refused is refused now
    streams = {
        seed: open_stream(args.data, severity=SEVERITY, frames=args.frames, seed=seed, cache=args.cache).segments
        for seed in args.seeds
    }
    for start in args.starts:
        began_s = time.process_time()
        make = maker(start, args)
        minutes = (time.process_time() - began_s) / 60
        for seed, segments in streams.items():
            for learning in (False,) if start in STARTS[:2] else (False, True):
                measure(args, origin, start, learning, seed, make, segments, minutes)
    return 0


def about(args: argparse.Namespace) -> dict[str, Any]:
    """What all rows of a file have in common."""
    stream = {"frames": args.frames, "severity": SEVERITY, "batch": BATCH}
    network = {"network": args.network, "checkpoint": sha256_of(args.checkpoint), "parts": PARTS}
    return {**network, "stream": stream, "training_seed": WARM_UP_SEED, "epochs": args.epochs}


def maker(start: str, args: argparse.Namespace) -> Callable[[bool], Callable[[Tensor], Tensor]]:
    """Make the start, and return what makes a fresh method from it, learning or not."""

    def network() -> nn.Module:
        return to_memory_format(open_network(args.network, checkpoint=args.checkpoint).eval(), "channels_last")

    if start == "source":
        return lambda learning: Source(network())
    if start == "batch statistics":
        return lambda learning: BatchNormStatistics(network())
    state = started(start, network(), args)
    options = step_options("batch", "exact")
    return lambda learning: Ecotta(network(), parts=PARTS, warmed=state, adapting=learning, step_options=options)


def started(start: str, network: nn.Module, args: argparse.Namespace) -> AdaptState:
    torch.manual_seed(0)
    adaptable = attach(partition(network, torch.zeros(1, 3, 32, 32), PARTS), default_kernel(args.network))
    if start == "identity":
        return identity_state(adaptable)
    frames, labels = source_frames(args.data, args.images, WARM_UP_SEED)
    answers = frozen_answers(adaptable, frames, BATCH) if start == "self-distilled" else labels
    return warm_up(adaptable, frames, answers, WarmUpOptions(epochs=args.epochs))


def measure(
    args: argparse.Namespace,
    origin: dict[str, Any],
    start: str,
    learning: bool,
    seed: int,
    make: Callable[[bool], Callable[[Tensor], Tensor]],
    segments: tuple[Segment, ...],
    minutes: float,
) -> None:
    images = args.images if start in TRAINED else 0
    name = f"{start}, {images} images, {'learning' if learning else 'not learning'}, seed {seed}"
    if name in read_rows(args.out, origin):
        return
    method, errors = make(learning), {}
    for segment in segments:
        pieces = [segment.frames[i : i + BATCH] for i in range(0, len(segment.frames), BATCH)]
        answers = np.concatenate([method(as_floats(piece)).argmax(1).numpy() for piece in pieces])
        errors[segment.corruption] = 100 * float(np.mean(answers != segment.labels))
    row = {
        "start": start,
        "images": images,
        "learning": learning,
        "seed": seed,
        "preparation_minutes": minutes,
        "error_percent": sum(errors.values()) / len(errors),
        "errors_percent": errors,
        "environment": asdict(read_environment(1)),
    }
    print(f"{name}: {row['error_percent']:.2f} %", flush=True)
    rows = read_rows(args.out, origin) | {name: row}
    report = {"measured": "starts", "about": origin, "rows": rows}
    write_atomic(args.out, (json.dumps(report, indent=1) + "\n").encode())


def read_rows(path: Path, origin: dict[str, Any]) -> dict[str, dict[str, Any]]:
    if not path.exists():
        return {}
    report: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if report.get("about") != origin:
        raise SystemExit(f"{path} holds figures of other conditions ({report.get('about')}); --out names another file")
    rows: dict[str, dict[str, Any]] = report["rows"]
    return rows


def as_floats(frames: np.ndarray[Any, np.dtype[np.uint8]]) -> Tensor:
    pixels = torch.from_numpy(frames.copy()).permute(0, 3, 1, 2)  # those of a cache are not writable
    return pixels.to(torch.float32, memory_format=torch.channels_last).div_(255)


if __name__ == "__main__":
    sys.exit(main())
