"""Which step size suits each method here, and which other constant: tried on training images, never on test images.

    python benchmarks/tune_step_sizes.py --data $ECOTTA_DATA/cifar-10-batches-bin       some eight hours on one core
    python benchmarks/tune_step_sizes.py --data $ECOTTA_DATA/cifar-10-batches-bin --methods ecotta-k4 --factors 0 0.25 1
    python benchmarks/tune_step_sizes.py --data $ECOTTA_DATA/cifar-10-batches-bin --methods ecotta-k4 --l1-weights 2
    python benchmarks/tune_step_sizes.py --data $ECOTTA_DATA/cifar-10-batches-bin --peers --short --out peers.json
    python benchmarks/tune_step_sizes.py --data $ECOTTA_DATA/cifar-10-batches-bin --peers --short --network resnet-56
        --checkpoint resnet56.th --out resnet-56.json

Every method has the step size of its paper, chosen for other networks and batches. Here each gets the same factors of
it; with 0 it learns nothing. EcoTTA's other dial is the weight of its L1 term (lambda, 0.5 in the paper); a peer has at
most one, see `CONSTANTS`, which is tried with the paper's step size. The stream is as long as the benchmark's, since a
short one does not show what learning costs late; `--short` is a trial of six corruptions. It is corruptions at severity
5 of training images that neither EATA nor a seed of the benchmark has seen corrupted; the network was trained on the
clean ones, so errors are far below those on test images: only their order counts, and even that with care, since more
of these frames pass the gate. Written to benchmarks/results/step-sizes.json after every run; what is there already is
not run again. Runs of different rows may write to one file at once.
"""

import argparse
import itertools
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
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
from ecotta_rt.bench.peers.peer import Peer
from ecotta_rt.data.corruptions import CORRUPTIONS, corrupt
from ecotta_rt.data.stream import source_frames
from ecotta_rt.files.atomic import write_atomic
from ecotta_rt.prepare.checkpoint import load_network
from ecotta_rt.prepare.open_network import open_network
from ecotta_rt.state import AdaptState

HERE = Path(__file__).parent
NETWORK = HERE / "networks" / "wrn-40-2-cifar-10.safetensors"
GROUPS, FINE_TUNED = NETWORK.with_suffix(".ecotta-k4.safetensors"), NETWORK.with_suffix(".fine-tuned.safetensors")
METHODS = ("ecotta-k4", "tent", "tent-fine-tuned", "eata")
PEERS = ("tent", "eata", "rotta", "note", "sar", "roid", "rdumb", "lame")
L1_WEIGHT = float(ADAPTATION["l1_weight"])
FACTORS = (0.0, 0.1, 0.25, 0.5, 1.0, 2.0)
PEERS_FACTORS = (1.0, 4.0, 0.25)
PAPER = {
    "ecotta-k4": float(ADAPTATION["lr"]),
    "tent": 1e-3,
    "tent-fine-tuned": 1e-3,
    "eata": 5e-3,
    "cotta": 1e-3,
    "rotta": 1e-3,
    "note": 1e-4,
    "sar": 2.5e-4,
    "roid": 1e-3,
    "rdumb": 5e-3,
}
"""Step sizes; LAME has none."""
CONSTANTS: dict[str, tuple[str, tuple[float, ...]]] = {
    "rotta": ("alpha", (0.01, 0.2)),
    "note": ("k", (2.0, 8.0)),
    "sar": ("reset_below", (0.0,)),
    "lame": ("neighbours", (1, 3)),
    "roid": ("source_memory", (0.9, 0.999)),
}
"""Method -> the constant that is tried beside the step size, and its values beside the paper's."""
SHORT = ("gaussian_noise", "glass_blur", "snow", "contrast", "pixelate", "jpeg_compression")
SHORT_FRAMES = 320
SEED = 1000
"""The benchmark's seeds are small numbers."""
SEEN_BY_EATA = 2000
BATCH, SEVERITY = 64, 5


@dataclass(frozen=True)
class Trial:
    """One row to be.

    Attributes:
        method: Method id.
        factor: Of the paper's step size.
        l1_weight: EcoTTA's.
        constant: A peer's other constant and its value; None for the paper's.
    """

    method: str
    factor: float
    l1_weight: float = L1_WEIGHT
    constant: tuple[str, float] | None = None

    @property
    def name(self) -> str:
        """What its row is called."""
        beside = "" if self.l1_weight == L1_WEIGHT else f", lambda {self.l1_weight:g}"
        if self.constant is not None:
            beside += f", {self.constant[0]} {self.constant[1]:g}"
        return f"{self.method} x {self.factor:g}{beside}"

    @property
    def step_size(self) -> float | None:
        """Its step size; None where the method has none."""
        return self.factor * PAPER[self.method] if self.method in PAPER else None


def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    torch.set_num_threads(args.threads)
    network = foreign(args) if args.checkpoint else channels_last(NETWORK)
    corruptions = SHORT if args.short else CORRUPTIONS
    frames = args.frames or (SHORT_FRAMES if args.short else 5000)
    origin = about(args, corruptions, frames)  # now: the files may be others when the first row is written
    clean, labels = source_frames(args.data, SEEN_BY_EATA + frames, SEED)
    stream = {name: corrupt(clean[SEEN_BY_EATA:], name, severity=SEVERITY, seed=SEED) for name in corruptions}
    for trial in trials(args):
        if trial.name in read_rows(args.out, origin):
            continue
        started_s = time.monotonic()
        errors = errors_percent(build(trial, network, clean[:SEEN_BY_EATA]), stream, labels[SEEN_BY_EATA:])
        row = {
            "method": trial.method,
            "step_size": trial.step_size,
            "factor": trial.factor,
            "error_percent": sum(errors.values()) / len(errors),
            "errors_percent": errors,
            "environment": asdict(read_environment(args.threads)),
        }
        if trial.method == "ecotta-k4":
            row["l1_weight"] = trial.l1_weight
        if trial.constant is not None:
            row["constant"] = list(trial.constant)
        print(f"{trial.name}: {row['error_percent']:.2f} %  ({time.monotonic() - started_s:.0f} s)", flush=True)
        # Read again: another run may have written since.
        rows = read_rows(args.out, origin) | {trial.name: row}
        report = {"measured": "step sizes", "about": origin, "rows": rows}
        write_atomic(args.out, (json.dumps(report, indent=1) + "\n").encode())
    return 0


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--data", type=Path, required=True, help="the binary version of CIFAR-10")
    add("--methods", nargs="*", choices=PAPER.keys() | {*PEERS}, help=f"({' '.join(METHODS)})")
    add("--peers", action="store_true", help=f"these methods: {' '.join(PEERS)}, and their other constants")
    add("--factors", nargs="*", type=float, help="of the paper's step size")
    add("--l1-weights", nargs="*", type=float, default=[L1_WEIGHT], help="of EcoTTA's L1 term (0.5)")
    add("--short", action="store_true", help=f"{len(SHORT)} corruptions x {SHORT_FRAMES} frames")
    add("--frames", type=int, help="a corruption (5000)")
    add("--network", default="resnet-56", help="with --checkpoint: model id, or FILE.py:FACTORY (resnet-56)")
    add("--checkpoint", type=Path, help="tune on this foreign network instead")
    add("--threads", type=int, default=1)
    add("--out", type=Path, default=HERE / "results" / "step-sizes.json")
    args = parser.parse_args(argv)
    args.methods = args.methods or (PEERS if args.peers else METHODS)
    args.factors = args.factors or (PEERS_FACTORS if args.peers else FACTORS)
    needs_groups = {"ecotta-k4", "tent-fine-tuned"} & {*args.methods}
    if args.checkpoint and needs_groups:
        parser.error(f"--checkpoint: {', '.join(sorted(needs_groups))} need files that the foreign network has not")
    return args


def trials(args: argparse.Namespace) -> Iterator[Trial]:
    """The rows, those of the paper's step size first."""
    for factor, l1_weight, method in itertools.product(args.factors, args.l1_weights, args.methods):
        if l1_weight != L1_WEIGHT and (method != "ecotta-k4" or not factor):
            continue  # nobody else has one, and who learns nothing does without
        if method in PAPER or factor == 1.0:
            yield Trial(method, factor, l1_weight)
    if args.peers:
        for method in (name for name in args.methods if name in CONSTANTS):
            option, values = CONSTANTS[method]
            yield from (Trial(method, 1.0, constant=(option, value)) for value in values)


def about(args: argparse.Namespace, corruptions: Sequence[str], frames: int) -> dict[str, Any]:
    """What all rows of a file have in common."""
    stream = {"corruptions": len(corruptions), "frames": frames, "severity": SEVERITY, "seed": SEED}
    if args.short:
        stream["played"] = list(corruptions)
    if args.checkpoint:
        files, network = {args.checkpoint.name: sha256_of(args.checkpoint)}, args.network
    else:
        # Groups or a control that were warmed up anew make every row another one.
        files, network = {path.name: sha256_of(path) for path in (NETWORK, GROUPS, FINE_TUNED)}, NETWORK.stem
    return {"network": network, "files": files, "batch": BATCH, **stream}


def read_rows(path: Path, origin: dict[str, Any]) -> dict[str, dict[str, Any]]:
    if not path.exists():
        return {}
    report: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    rows: dict[str, dict[str, Any]] = report["rows"] if report.get("about") == origin else {}
    return rows


def build(trial: Trial, network: torch.nn.Module, clean: NDArray[np.uint8]) -> Peer:
    """The method with the step size and constant that are tried."""
    torch.manual_seed(0)
    options: dict[str, Any] = {} if trial.step_size is None else {"learning_rate": trial.step_size}
    if trial.method == "ecotta-k4":
        warmed = AdaptState.load(GROUPS)
        hyperparameters = {"lr": trial.step_size, "l1_weight": trial.l1_weight}
        options = {"warmed": warmed, "step_options": step_options("batch", "exact", hyperparameters=hyperparameters)}
    elif trial.method == "eata":
        options["source_frames"] = as_floats(clean)
    elif trial.method == "tent-fine-tuned":
        options["fine_tuned"] = channels_last(FINE_TUNED)
    if trial.constant is not None:
        options |= [trial.constant]
    return build_method(trial.method, network, classes=10, **options)


def errors_percent(running: Peer, stream: dict[str, NDArray[np.uint8]], labels: NDArray[np.int64]) -> dict[str, float]:
    """The error of a method in each corruption of the stream, adapting all the way."""
    errors = {}
    for corruption, frames in stream.items():
        running.begin_corruption(corruption)
        wrong = 0
        for start in range(0, len(frames), BATCH):
            answers = running(as_floats(frames[start : start + BATCH])).argmax(1).numpy()
            wrong += int((answers != labels[start : start + BATCH]).sum())
        errors[corruption] = 100 * wrong / len(labels)
    return errors


def foreign(args: argparse.Namespace) -> torch.nn.Module:
    return to_memory_format(open_network(args.network, checkpoint=args.checkpoint).eval(), "channels_last")


def channels_last(path: Path) -> torch.nn.Module:
    return to_memory_format(load_network(path), "channels_last")


def as_floats(frames: NDArray[np.uint8]) -> torch.Tensor:
    pixels = torch.from_numpy(frames).permute(0, 3, 1, 2)
    return pixels.to(torch.float32, memory_format=torch.channels_last).div_(255)


if __name__ == "__main__":
    sys.exit(main())
