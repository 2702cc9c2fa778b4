r"""Which recipe of the warm-up is best: tried on training images, chosen by corruptions that are not those of the test.

    python benchmarks/measure_warm_ups.py resnet-56 --checkpoint resnet56.th --data $ECOTTA_DATA/cifar-10-batches-bin \
        --recipes jitter:0.4,blur:0.2,grey:0.1 jitter:0.4,blur:0.2,grey:0.1,textures:0.4 --seeds 0 1

Each recipe warms groups up on the same training images. They are then played without learning, in batches of 64 with
batch statistics, on training images that no recipe sees, under six corruptions (`other_corruptions.py`). With
`--confirm` also under the 15 of the test, in batches and one frame at a time (`running`). With `--control` the same
recipe trains all weights of the plain network instead, which is played with batch statistics, and with TENT where
--confirm is given.
A seed decides the choice of images, their order and the augmentation. Minutes are processor time of one core.
Written to benchmarks/results/warm-ups.json after every row; what is there already is not run again.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ecotta_rt.bench.environment import read_environment
from ecotta_rt.bench.network_files import sha256_of
from ecotta_rt.bench.peers.bn import BatchNormStatistics
from ecotta_rt.bench.peers.memory_format import to_memory_format
from ecotta_rt.bench.peers.tent import Tent
from ecotta_rt.data.corruptions import CORRUPTIONS, corrupt
from ecotta_rt.data.stream import source_frames
from ecotta_rt.files.atomic import write_atomic
from ecotta_rt.method.attach import attach
from ecotta_rt.method.cut.partition import partition
from ecotta_rt.method.torch_engine import TorchEngine
from ecotta_rt.options import StepOptions
from ecotta_rt.prepare.augment import Augmentation
from ecotta_rt.prepare.epochs import WarmUpOptions
from ecotta_rt.prepare.open_network import open_network
from ecotta_rt.prepare.warmup import fine_tune, warm_up
from other_corruptions import OTHER_CORRUPTIONS, corrupt_otherwise

SPLIT_SEED, HELD_OUT = 1000, 5000
BATCH, SEVERITY = 64, 5
STATISTICS_FRAMES = 3000
WAYS = {"batch": BATCH, "running": 1}  # frames a step
CONTROL_WAYS = {"batch": BATCH, "tent": BATCH}
CONTROL_LR = 0.005
"""A trained network is harmed by steps as large as those of new groups: as for the embedded control."""

Frames, Labels = NDArray[np.uint8], NDArray[np.int64]
Answer = Callable[[Tensor], Tensor]


def main(argv: list[str] | None = None) -> int:
    args = parser().parse_args(argv)
    torch.set_num_threads(1)
    origin = about(args)
    read_rows(args.out, origin)  # what would be refused is refused now
    frames, labels = source_frames(args.data, None, SPLIT_SEED)
    training = frames[:-HELD_OUT], labels[:-HELD_OUT]
    held_out = frames[-args.frames :], labels[-args.frames :]
    others = {name: corrupt_otherwise(held_out[0], name, 0) for name in OTHER_CORRUPTIONS}
    for seed in args.seeds:
        for recipe in args.recipes:
            measure(args, origin, Augmentation.parse(recipe, args.draws), seed, training, held_out, others)
    return 0


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = made.add_argument
    add("network", help="model id, network file of ours, or FILE.py:FACTORY")
    add("--checkpoint", type=Path)
    add("--data", type=Path, required=True, help="the binary version of CIFAR-10")
    add("--recipes", nargs="+", default=[str(Augmentation())], help="as `ecotta prepare --augment` takes them")
    add("--draws", type=int, help="as --augment-draws")
    add("--images", type=int, default=8000, help="training images (8000)")
    add("--epochs", type=int, default=1, help="passes over them (1)")
    add("--parts", type=int, default=4)
    add("--kernel", type=int, default=3)
    add("--frames", type=int, default=384, help="a corruption (384)")
    add("--seeds", type=int, nargs="*", default=[0])
    add("--confirm", action="store_true", help="play the 15 corruptions of the test too")
    add("--control", action="store_true", help="train the whole network instead of groups")
    add("--out", type=Path, default=Path(__file__).parent / "results" / "warm-ups.json")
    return made


def about(args: argparse.Namespace) -> dict[str, Any]:
    """What all rows of a file have in common."""
    file = args.checkpoint or Path(args.network)
    network = {"network": Path(args.network).name, "checkpoint": sha256_of(file)}
    return {**network, "frames": args.frames, "severity": SEVERITY, "batch": BATCH, "split_seed": SPLIT_SEED}


def measure(
    args: argparse.Namespace,
    origin: dict[str, Any],
    how: Augmentation,
    seed: int,
    training: tuple[Frames, Labels],
    held_out: tuple[Frames, Labels],
    others: Mapping[str, Frames],
) -> None:
    shape = {"images": args.images, "epochs": args.epochs, "parts": args.parts, "kernel": args.kernel}
    trained = "network" if args.control else "groups"
    facts = {"recipe": str(how), "draws": how.draws, "trained": trained, **shape, "seed": seed}
    name = ", ".join(f"{key} {value}" for key, value in facts.items())
    done = read_rows(args.out, origin).get(name, {})
    if "errors_percent" in done and ("confirmed" in done or not args.confirm):
        return
    places = np.random.default_rng((seed, SPLIT_SEED)).permutation(len(training[1]))[: args.images]
    began_s = time.process_time()
    play = made(args, how, seed, *(part[places] for part in training))
    row = {**facts, "minutes": (time.process_time() - began_s) / 60}
    answers = play("batch")
    row["clean_error_percent"] = error(answers, *held_out, BATCH)
    row["errors_percent"] = {other: error(answers, x, held_out[1], BATCH) for other, x in others.items()}
    row["error_percent"] = float(np.mean(list(row["errors_percent"].values())))
    if args.confirm:
        row["confirmed"] = confirmed(play, *held_out, ways=CONTROL_WAYS if args.control else WAYS)
    row["environment"] = asdict(read_environment(1))
    print(f"{name}: {row['error_percent']:.2f} %, clean {row['clean_error_percent']:.2f} %", flush=True)
    rows = read_rows(args.out, origin) | {name: row}
    report = {"measured": "warm-ups", "about": origin, "rows": rows}
    write_atomic(args.out, (json.dumps(report, indent=1) + "\n").encode())


def made(
    args: argparse.Namespace, how: Augmentation, seed: int, frames: Frames, labels: Labels
) -> Callable[[str], Answer]:
    """Train by the recipe; returns what makes a fresh player of it, for `batch`, `running` or `tent`."""
    plain: nn.Module = to_memory_format(open_network(args.network, checkpoint=args.checkpoint).eval(), "channels_last")
    torch.manual_seed(seed)
    common = {"epochs": args.epochs, "augmentation": how, "seed": seed}
    if args.control:
        tuned = fine_tune(plain, frames, labels, WarmUpOptions(lr=CONTROL_LR, **common)).state_dict()

        def control(kind: str) -> Answer:
            network = to_memory_format(open_network(args.network, checkpoint=args.checkpoint).eval(), "channels_last")
            network.load_state_dict(tuned)
            return Tent(network) if kind == "tent" else BatchNormStatistics(network)

        return control
    network = attach(partition(plain, torch.zeros(1, *frames.shape[:0:-1]), args.parts), args.kernel, seed=seed)
    options = WarmUpOptions(statistics_frames=min(STATISTICS_FRAMES, len(frames)), **common)
    state = warm_up(network, frames, labels, options)
    return lambda kind: TorchEngine(network, StepOptions(normalisation=kind), state).predict  # type: ignore[arg-type]


def confirmed(
    play: Callable[[str], Answer], frames: Frames, labels: Labels, *, ways: Mapping[str, int]
) -> dict[str, dict[str, float]]:
    """Errors under the 15 corruptions of the test, continually, by way of playing and corruption."""
    methods = {way: play(way) for way in ways}
    found: dict[str, dict[str, float]] = {way: {} for way in ways}
    for name in CORRUPTIONS:
        corrupted = corrupt(frames, name, severity=SEVERITY, seed=0)
        for way, batch in ways.items():
            found[way][name] = error(methods[way], corrupted, labels, batch)
    return found


def error(answer: Answer, frames: Frames, labels: Labels, batch: int) -> float:
    """Percent of the frames that are answered wrongly."""
    pieces = [torch.from_numpy(frames[i : i + batch]) for i in range(0, len(frames), batch)]
    answers = [answer(piece.permute(0, 3, 1, 2).float().div_(255)).argmax(1) for piece in pieces]
    return 100 * float(np.mean(torch.cat(answers).numpy() != labels))


def read_rows(path: Path, origin: dict[str, Any]) -> dict[str, dict[str, Any]]:
    if not path.exists():
        return {}
    report: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if report.get("about") != origin:
        raise SystemExit(f"{path} holds figures of other conditions ({report.get('about')}); --out names another file")
    rows: dict[str, dict[str, Any]] = report["rows"]
    return rows


if __name__ == "__main__":
    sys.exit(main())
