r"""Make what the benchmark needs beside a trained network: warmed-up meta groups, and the fine-tuned control.

    python benchmarks/warm_up_networks.py benchmarks/networks/wrn-40-2-cifar-10.safetensors \
        --data $ECOTTA_DATA/cifar-10-batches-bin --parts 4 --epochs 2 --precision bfloat16 \
        --statistics-frames 5000 --fine-tune-lr 0.005

All of them see the same frames in the same order with the same augmentation and number of steps; the seed is the same.
What exists already is left alone, and an interrupted run goes on after the last whole tenth of an epoch.
"""

import argparse
import sys
from dataclasses import asdict, replace
from pathlib import Path

from ecotta_rt.cli.progress import TrainingProgress
from ecotta_rt.data import Labelled, SourceData
from ecotta_rt.data.stream import source_frames
from ecotta_rt.machine.this_machine import require_bfloat16
from ecotta_rt.prepare.augment import Augmentation
from ecotta_rt.prepare.checkpoint import load_network, read_network_file, save_network
from ecotta_rt.prepare.epochs import WarmUpOptions
from ecotta_rt.prepare.pipeline import default_kernel, prepare, warmed_path
from ecotta_rt.prepare.warmup import fine_tune


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", type=Path)
    parser.add_argument("--data", required=True)
    parser.add_argument("--frames", type=int, help="source frames to use (default: all)")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--parts", type=int, nargs="*", default=[4, 5])
    parser.add_argument("--statistics-frames", type=int)
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--fine-tune-lr", type=float, help="step size of the control alone (default: as the groups')")
    parser.add_argument("--augment", default=str(Augmentation()), help="as `ecotta prepare` takes it")
    parser.add_argument("--augment-draws", type=int)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    if args.precision == "bfloat16":
        require_bfloat16()
    frames, labels = source_frames(args.data, args.frames, args.seed)
    options = WarmUpOptions(
        epochs=args.epochs,
        augmentation=Augmentation.parse(args.augment, args.augment_draws),
        precision=args.precision,
        statistics_frames=args.statistics_frames,
        seed=args.seed,
    )
    # New groups learn from nothing; a trained network is harmed by steps as large as theirs.
    tuning = options if args.fine_tune_lr is None else replace(options, lr=args.fine_tune_lr)
    about = read_network_file(args.network)
    out = args.network.with_suffix("")
    origin = f"{len(labels)} training images of {about.recipe.get('data_set', Path(args.data).name)}"
    for parts in args.parts:
        if warmed_path(out, parts).exists():
            continue
        with TrainingProgress(f"warm-up K={parts}") as progress:
            kernel = default_kernel(about.model)
            network = load_network(args.network)
            prepare(
                network,
                SourceData(Labelled(frames, labels)),
                out,
                parts=parts,
                kernel=kernel,
                options=options,
                origin=origin,
                report=progress,
            )
    target = out.with_name(f"{out.name}.fine-tuned.safetensors")
    if not target.exists():
        snapshot = target.with_suffix(".snapshot")
        with TrainingProgress("fine-tuning") as progress:
            network = load_network(args.network)
            fine_tune(network, frames, labels, tuning, report=progress, snapshot=snapshot)
        recipe = {"fine_tuned_from": args.network.name, "on": origin, "options": asdict(tuning)}
        save_network(network, target, model=about.model, recipe=recipe)
        snapshot.unlink(missing_ok=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
