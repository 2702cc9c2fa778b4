"""Make a network ready for a device: network + checkpoint + labelled source data -> net.ecotta.

Warms meta groups up on the source data, then compiles the whole adaptation step into plain ONNX graphs and writes them
as one bundle, which `ecotta run` runs without torch.

Writes OUT.ecotta-kK.safetensors, the warmed-up meta groups with the statistics of the source data; OUT.ecotta, the
bundle; and, for a model id with a checkpoint, OUT.safetensors: the frozen network that they fit. A run that was
interrupted goes on after its last whole epoch, and a warmed-up state that exists is exported as it is.

examples:
  ecotta prepare wrn-40-2.safetensors --data cifar-10-batches-bin --parts 4
  ecotta prepare resnet-56 --checkpoint resnet56.th --data cifar-10-batches-bin --out my-resnet --epochs 3
  ecotta prepare net.safetensors --data fashion-mnist-c --frames 2000 --precision bfloat16
  ecotta prepare net.safetensors --data fashion-mnist-c --normalisation batch --step-batch 64 --bundle net-64.ecotta
"""

import argparse
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

from ecotta_rt.errors import UsageError
from ecotta_rt.messages import tell

if TYPE_CHECKING:
    from ecotta_rt.prepare.options import StepOptions
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
    add("--force", action="store_true", help="warm up again and replace what exists")
    bundle = parser.add_argument_group("bundle")
    add = bundle.add_argument
    where = bundle.add_mutually_exclusive_group()
    where.add_argument("--bundle", type=Path, metavar="FILE", help="where to write it (default: OUT.ecotta)")
    where.add_argument("--no-bundle", action="store_true", help="stop after the warm-up")
    add(
        "--normalisation",
        choices=("running", "source", "batch"),
        default="running",
        help="whose statistics the norms use on the device (default running: of the stream so far)",
    )
    add(
        "--step-batch",
        type=int,
        nargs="+",
        metavar="N",
        help="frames a step, a graph for each number (default 1; 64 with batch normalisation)",
    )
    add("--step-lr", type=float, default=5e-3, metavar="LR", help="step size for 64 frames, less for fewer (0.005)")
    add("--l1-weight", type=float, default=0.5, metavar="L", help="lambda, of the L1 term that holds features (0.5)")
    add("--frame-by-frame", action="store_true", help="add graphs that learn from many frames in the memory of one")
    add("--fast", action="store_true", help="add steps that take more memory for less time, where there are some")
    add("--device", metavar="ID", help="leave out graphs that do not fit there; an error when none does")
    add("--gradient", choices=("exact", "constant"), default="exact", help="through batch statistics (default exact)")


def run(args: argparse.Namespace) -> int:
    """Warm up, export, save."""
    from ecotta_rt.bench.streams import source_frames
    from ecotta_rt.bench.streams.sources import find_source
    from ecotta_rt.cli.training_progress import TrainingProgress
    from ecotta_rt.device import load_device
    from ecotta_rt.prepare.pipeline import default_kernel, export_bundle, frozen_network, prepare, warmed_path

    out = args.out or Path(args.network).with_suffix("")
    target = warmed_path(out, args.parts)
    bundle = None if args.no_bundle else args.bundle or out.with_name(f"{out.name}.ecotta")
    if bundle is not None and bundle.exists() and not args.force:
        raise UsageError(f"{bundle} exists; --force replaces it, --bundle chooses another name")
    if bundle is None and target.exists() and not args.force:
        raise UsageError(f"{target} exists; --force replaces it, --out chooses another name")
    device = None if args.device is None else load_device(args.device)
    options, step, batches = _options(args), _step_options(args), _batches(args)
    kernel = default_kernel(args.network) if args.kernel is None else args.kernel
    classes = find_source(args.data).classes
    frames, labels = source_frames(args.data, args.frames, args.seed)
    network = frozen_network(args.network, args.checkpoint, out)  # last: it writes
    if target.exists() and not args.force:
        tell("ecotta prepare", f"{target} exists and is exported as it is; --force warms up again")
    else:
        with TrainingProgress(f"warm-up K={args.parts}") as progress:
            prepare(
                network,
                frames,
                labels,
                out,
                parts=args.parts,
                kernel=kernel,
                options=options,
                threads=args.threads,
                origin=str(args.data),
                report=progress,
            )
    print(target)
    if bundle is not None:
        export_bundle(
            args.network,
            network,
            target,
            bundle,
            frame_size=frames.shape[1:3],
            classes=classes,
            batches=batches,
            options=step,
            fast=args.fast,
            device=device,
            report=_tell,
        )
        print(bundle)
    return 0


def _tell(graph: str, done: int, total: int) -> None:
    what = f"graph {done + 1} of {total}: {graph}" if done < total else graph
    tell("ecotta prepare", what)


def _batches(args: argparse.Namespace) -> tuple[int, ...]:
    if args.step_batch:
        return tuple(args.step_batch)
    return (64,) if args.normalisation == "batch" else (1,)


def _step_options(args: argparse.Namespace) -> "StepOptions":
    from ecotta_rt.prepare.export.exporter import requests_for
    from ecotta_rt.prepare.options import StepOptions

    options = StepOptions(
        normalisation=args.normalisation,
        frozen_gradient=args.gradient,
        frame_by_frame=args.frame_by_frame,
        lr=args.step_lr,
        l1_weight=args.l1_weight,
        lr_batch=64,
    )
    requests_for(_batches(args), options, args.fast)  # what cannot be exported is said before the warm-up
    return options


def _options(args: argparse.Namespace) -> "WarmUpOptions":
    from ecotta_rt.prepare.augment import Augmentation
    from ecotta_rt.prepare.warmup import WarmUpOptions

    same = {field.name: vars(args)[field.name] for field in fields(WarmUpOptions) if field.name in vars(args)}
    same["milestones"] = tuple(args.milestones)
    augmentation = Augmentation(jitter=args.jitter, blur=args.blur, grey=args.grey)
    return WarmUpOptions(**same, augmentation=augmentation, matched_start=not args.plain_start)
