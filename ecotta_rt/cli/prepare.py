"""Warm a network up for adaptation: network + checkpoint + labelled source data -> warmed-up network.

Writes OUT.ecotta-kK.safetensors, the warmed-up meta groups with the statistics of the source data, and, for a model id
with a checkpoint, OUT.safetensors: the frozen network that they fit. A run that was interrupted goes on after its last
whole epoch.

examples:
  ecotta prepare wrn-40-2.safetensors --data cifar-10-batches-bin --parts 4
  ecotta prepare resnet-56 --checkpoint resnet56.th --data cifar-10-batches-bin --out my-resnet --epochs 3
  ecotta prepare net.safetensors --data fashion-mnist-c --frames 2000 --precision bfloat16
"""

import argparse
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

from ecotta_rt.errors import UsageError

if TYPE_CHECKING:
    from ecotta_rt.prepare.warmup import WarmUpOptions

__all__ = ["NAME", "add_arguments", "run"]

NAME = "prepare"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add("network", metavar="NETWORK", help="a network file of ours (.safetensors), a model id, or FILE.py:FACTORY")
    add("--checkpoint", type=Path, metavar="FILE", help="its weights (.pt, .pth, .th, .safetensors)")
    add(
        "--data",
        required=True,
        metavar="DATA",
        help="folder with the source data (CIFAR binary, Fashion-MNIST idx), or fashion-mnist-c: the embedded sample",
    )
    add("--out", type=Path, metavar="OUT", help="where to, without suffix (default: NETWORK without its suffix)")
    add("--parts", type=int, default=4, metavar="K", help="parts to cut the network into (default 4)")
    add("--kernel", type=int, metavar="N", help="side of the meta convolutions (default 3; 1 for resnet-50)")
    add("--frames", type=int, metavar="N", help="source frames to use (default: all)")
    add("--epochs", type=int, default=10, help="passes over them (default 10)")
    add("--batch", type=int, default=64, help="frames a step (default 64)")
    add("--lr", type=float, default=0.05, help="peak step size (default 0.05)")
    add("--momentum", type=float, default=0.9, help="momentum of SGD (default 0.9)")
    add("--decay", type=float, default=0.2, help="factor on the step size at each milestone (default 0.2)")
    add("--milestones", type=float, nargs="*", default=[0.3, 0.6, 0.8], help="shares of the run (default 0.3 0.6 0.8)")
    add("--jitter", type=float, default=0.4, metavar="P", help="probability of colour jitter (default 0.4)")
    add("--blur", type=float, default=0.2, metavar="P", help="probability of Gaussian blur (default 0.2)")
    add("--grey", type=float, default=0.1, metavar="P", help="probability of greyscale (default 0.1)")
    add("--plain-start", action="store_true", help="torch's usual start, not one matched to the frozen features")
    add("--statistics-frames", type=int, metavar="N", help="frames of the statistics pass (default: all)")
    add("--precision", choices=("float32", "bfloat16"), default="float32", help="default float32")
    add("--threads", type=int, metavar="N", help="threads (default: torch's choice)")
    add("--seed", type=int, default=0, help="of the order and the augmentation (default 0)")
    add("--force", action="store_true", help="replace a warmed-up state that exists")


def run(args: argparse.Namespace) -> int:
    """Warm up and save."""
    from ecotta_rt.bench.streams import source_frames
    from ecotta_rt.cli.training_progress import TrainingProgress
    from ecotta_rt.prepare.pipeline import default_kernel, frozen_network, prepare, warmed_path

    out = args.out or Path(args.network).with_suffix("")
    target = warmed_path(out, args.parts)
    if target.exists() and not args.force:
        raise UsageError(f"{target} exists; --force replaces it, --out chooses another name")
    options = _options(args)
    frames, labels = source_frames(args.data, args.frames, args.seed)
    network = frozen_network(args.network, args.checkpoint, out)  # last: it writes
    with TrainingProgress(f"warm-up K={args.parts}") as progress:
        prepare(
            network,
            frames,
            labels,
            out,
            parts=args.parts,
            kernel=default_kernel(args.network) if args.kernel is None else args.kernel,
            options=options,
            threads=args.threads,
            origin=str(args.data),
            report=progress,
        )
    print(target)
    return 0


def _options(args: argparse.Namespace) -> "WarmUpOptions":
    from ecotta_rt.prepare.augment import Augmentation
    from ecotta_rt.prepare.warmup import WarmUpOptions

    same = {field.name: vars(args)[field.name] for field in fields(WarmUpOptions) if field.name in vars(args)}
    same["milestones"] = tuple(args.milestones)
    augmentation = Augmentation(jitter=args.jitter, blur=args.blur, grey=args.grey)
    return WarmUpOptions(**same, augmentation=augmentation, matched_start=not args.plain_start)
