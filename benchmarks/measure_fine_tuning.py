r"""What step sizes of `ecotta prepare --fine-tune` bring: tried on training images alone.

    python benchmarks/measure_fine_tuning.py resnet-56 --checkpoint resnet56.th \
        --data $ECOTTA_DATA/cifar-10-batches-bin --lrs 0.003 0.01 0.03 --epochs 1 2

All weights of the network are trained on training images. It is then played in batches of 64 with their statistics,
without learning, on training images that it was not trained on here: clean, and under six corruptions that are not
those of the test (`other_corruptions.py`). With `--groups` groups are warmed up on it for a pass over the same images,
and played so, and one frame at a time with `running` statistics. The first row is the network as it is.
A checkpoint of others may have seen the clean images that are held out here, in which case small steps look better
than they are. Minutes are processor time of one core.
Written to benchmarks/results/fine-tuning.json after every row; what is there already is not run again.
"""

import argparse
import json
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ecotta_rt.bench.environment import read_environment
from ecotta_rt.bench.network_files import sha256_of
from ecotta_rt.bench.peers.bn import BatchNormStatistics
from ecotta_rt.bench.peers.memory_format import to_memory_format
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
from measure_warm_ups import (
    BATCH,
    HELD_OUT,
    SEVERITY,
    SPLIT_SEED,
    STATISTICS_FRAMES,
    Answer,
    Frames,
    Labels,
    error,
    read_rows,
)
from other_corruptions import OTHER_CORRUPTIONS, corrupt_otherwise

ONE_BY_ONE = 200
"""Frames a corruption of those that are played one at a time, which takes four times as long."""


def main(argv: list[str] | None = None) -> int:
    args = parser().parse_args(argv)
    torch.set_num_threads(1)
    origin = about(args)
    read_rows(args.out, origin)  # what would be refused is refused now
    frames, labels = source_frames(args.data, None, SPLIT_SEED)
    training = frames[:-HELD_OUT], labels[:-HELD_OUT]
    held_out = frames[-args.frames :], labels[-args.frames :]
    streams = {"clean": held_out[0]}
    streams |= {name: corrupt_otherwise(held_out[0], name, 0) for name in OTHER_CORRUPTIONS}
    cases = [(epochs, lr) for epochs in args.epochs for lr in (args.lrs if epochs else [0.0])]
    shared = {"images": args.images, "precision": args.precision, "groups": args.groups}
    for seed in args.seeds:
        for recipe in args.recipes:
            for epochs, lr in cases:
                facts = {"epochs": epochs, "lr": lr, "recipe": recipe if epochs else "none", **shared, "seed": seed}
                measure(args, origin, facts, training, streams, held_out[1])
    return 0


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = made.add_argument
    add("network", help="model id, network file of ours, or FILE.py:FACTORY")
    add("--checkpoint", type=Path)
    add("--data", type=Path, required=True, help="the binary version of CIFAR-10")
    add("--lrs", type=float, nargs="+", default=[0.003, 0.01, 0.03], help="peak step sizes")
    add("--epochs", type=int, nargs="+", default=[0, 1], help="passes over the images; 0 is the network as it is")
    add("--recipes", nargs="+", default=[str(Augmentation())], help="as `ecotta prepare --augment` takes them")
    add("--images", type=int, default=8000, help="training images (8000)")
    add("--frames", type=int, default=640, help="held out, a corruption (640)")
    add("--precision", choices=("float32", "bfloat16"), default="float32", help="as `ecotta prepare` takes it")
    add("--groups", action="store_true", help="warm groups up on what was trained, and play those")
    add("--seeds", type=int, nargs="*", default=[0])
    add("--out", type=Path, default=Path(__file__).parent / "results" / "fine-tuning.json")
    return made


def about(args: argparse.Namespace) -> dict[str, Any]:
    """What all rows of a file have in common."""
    file = args.checkpoint or Path(args.network)
    network = {"network": Path(args.network).name, "checkpoint": sha256_of(file)}
    return {**network, "frames": args.frames, "severity": SEVERITY, "batch": BATCH, "split_seed": SPLIT_SEED}


def measure(
    args: argparse.Namespace,
    origin: dict[str, Any],
    facts: dict[str, Any],
    training: tuple[Frames, Labels],
    streams: Mapping[str, Frames],
    labels: Labels,
) -> None:
    name = ", ".join(f"{key} {value}" for key, value in facts.items())
    if name in read_rows(args.out, origin):
        return
    places = np.random.default_rng((facts["seed"], SPLIT_SEED)).permutation(len(training[1]))[: args.images]
    frames, known = (part[places] for part in training)
    began_s = time.process_time()
    torch.manual_seed(facts["seed"])
    network: nn.Module = open_network(args.network, checkpoint=args.checkpoint).eval()
    network = to_memory_format(network, "channels_last")
    if facts["epochs"]:
        recipe = Augmentation.parse(facts["recipe"])
        how: dict[str, Any] = {"precision": args.precision, "seed": facts["seed"]}
        options = WarmUpOptions(epochs=facts["epochs"], lr=facts["lr"], augmentation=recipe, **how)
        fine_tune(network, frames, known, options)
    row = {**facts, "minutes": (time.process_time() - began_s) / 60}
    row["clean_own_error_percent"] = error(network.eval(), streams["clean"], labels, BATCH)
    if facts["groups"]:
        began_s = time.process_time()
        network.requires_grad_(False)
        adaptable = attach(partition(network, torch.zeros(1, *frames.shape[:0:-1]), 4), 3, seed=facts["seed"])
        how = {"precision": args.precision, "seed": facts["seed"]}
        options = WarmUpOptions(epochs=1, statistics_frames=min(STATISTICS_FRAMES, len(frames)), **how)
        state = warm_up(adaptable, frames, known, options)
        row["groups_minutes"] = (time.process_time() - began_s) / 60
        row["errors_percent"] = played(
            TorchEngine(adaptable, StepOptions(normalisation="batch"), state).predict, streams, labels, BATCH
        )
        few = {name: part[:ONE_BY_ONE] for name, part in streams.items()}
        one = TorchEngine(adaptable, StepOptions(normalisation="running"), state).predict
        row["one_by_one_errors_percent"] = played(one, few, labels[:ONE_BY_ONE], 1)
    else:
        row["errors_percent"] = played(BatchNormStatistics(network), streams, labels, BATCH)
    row["environment"] = asdict(read_environment(1))
    corrupted = np.mean([found for name, found in row["errors_percent"].items() if name != "clean"])
    print(f"{name}: {corrupted:.2f} %, clean {row['errors_percent']['clean']:.2f} %, "
          f"own statistics {row['clean_own_error_percent']:.2f} %; {row['minutes']:.1f} min", flush=True)  # fmt: skip
    rows = read_rows(args.out, origin) | {name: row}
    report = {"measured": "fine-tuning", "about": origin, "rows": rows}
    write_atomic(args.out, (json.dumps(report, indent=1) + "\n").encode())


def played(answer: Answer, streams: Mapping[str, Frames], labels: Labels, batch: int) -> dict[str, float]:
    """Percent of wrong answers by stream, one after the other."""
    with torch.no_grad():
        return {name: error(answer, frames, labels, batch) for name, frames in streams.items()}


if __name__ == "__main__":
    sys.exit(main())
