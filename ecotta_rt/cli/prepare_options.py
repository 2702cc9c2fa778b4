"""The options of `ecotta prepare`, and what they say of warm-up and step."""

import argparse
import re
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ecotta_rt.cli.json_option import add_json
from ecotta_rt.cli.parser import add_key_mapping, batch_size, integer, thread_count
from ecotta_rt.errors import InputFileError, UsageError
from ecotta_rt.machine.device import load_device
from ecotta_rt.machine.this_machine import require_bfloat16
from ecotta_rt.options import COUPLED, NORMALISATIONS, NORMS_STEP, ON_DEVICE

if TYPE_CHECKING:
    from ecotta_rt.exporter.request import ExportOptions
    from ecotta_rt.prepare.epochs import WarmUpOptions

__all__ = [
    "USUAL_AUGMENTATION",
    "add_options",
    "class_names",
    "export_options",
    "frame_size",
    "wants_norms",
    "warm_up_options",
]

USUAL_AUGMENTATION = "jitter:0.4,blur:0.2,grey:0.1"
"""What `--augment` is where nobody says it."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add("network", metavar="NETWORK", help="a network file of ours (.safetensors), a model id, or FILE.py:FACTORY")
    add("--checkpoint", type=Path, metavar="FILE", help="its weights (.pt, .pth, .th, .safetensors)")
    add_key_mapping(parser)
    add(
        "--data",
        metavar="DATA",
        help="the source data: a folder of class folders with pictures, one of pictures without classes, a CIFAR "
        "(binary) or Fashion-MNIST (idx) folder, or fashion-mnist-c, the embedded sample (default: none; the groups "
        "start as an identity)",
    )
    add(
        "--unlabelled",
        action="store_true",
        help="do not use the labels of --data: the groups learn from the network's own answers",
    )
    add("--out", type=Path, metavar="OUT", help="where to, without suffix (default: NETWORK without its suffix)")
    add("--parts", type=integer, default=4, metavar="K", help="parts to cut the network into (default 4)")
    add("--kernel", type=integer, metavar="N", help="side of the meta convolutions (default 3; 1 for resnet-50)")
    add("--frames", type=integer, metavar="N", help="source frames to use, chosen at random (default: all)")
    add("--epochs", type=integer, default=10, help="passes over them (default 10)")
    add(
        "--fine-tune",
        type=integer,
        metavar="EPOCHS",
        help="train the whole network first, for so many passes over labelled --data, and keep that where held-out "
        "pictures, clean and corrupted, say that it is no worse; 1 is usual (default: the network stays as it is)",
    )
    add("--fine-tune-lr", type=float, metavar="LR", help="peak step size of it (default 0.01)")
    add("--batch", type=batch_size, default=64, help="frames a step (default 64)")
    add("--lr", type=float, default=0.05, help="peak step size (default 0.05)")
    add("--momentum", type=float, default=0.9, help="momentum of SGD (default 0.9)")
    add("--decay", type=float, default=0.2, help="factor on the step size at each milestone (default 0.2)")
    add("--milestones", type=float, nargs="*", default=[0.3, 0.6, 0.8], help="shares of the run (default 0.3 0.6 0.8)")
    add(
        "--augment",
        default=USUAL_AUGMENTATION,
        metavar="NAME[:STRENGTH],...",
        help="how frames are changed, in this order, each with a strength from 0 to 1 (usual ones in brackets); 'none' "
        "changes nothing. As a probability: jitter of colours (0.4), blur (0.2), grey (0.1), flip (0.5), erase a "
        "rectangle (0.5). As how far it goes: shift (0.125 of the side), augmix (0.3), curves of tone (0.3), filters "
        "at random (0.5), amplitude of other frames (0.5), waves (0.5), textures (0.4) "
        f"(default {USUAL_AUGMENTATION})",
    )
    add(
        "--augment-draws",
        type=integer,
        metavar="N",
        help="different draws of them in a batch; frames that share one look like one place (default: one a frame)",
    )
    add("--plain-start", action="store_true", help="torch's usual start, not one matched to the frozen features")
    add("--statistics-frames", type=integer, metavar="N", help="frames of the statistics pass (default: all)")
    add("--precision", choices=("float32", "bfloat16"), default="float32", help="default float32")
    add("--threads", type=thread_count, metavar="N", help="threads (default: torch's choice)")
    add("--seed", type=integer, default=0, help="of the order and the augmentation (default 0)")
    add_json(parser)
    add("--force", action="store_true", help="train again and replace what exists, snapshots of other runs too")
    _add_pictures(parser.add_argument_group("pictures"))
    _add_bundle(parser.add_argument_group("bundle"))


def _add_pictures(group: "argparse._ArgumentGroup") -> None:
    add = group.add_argument
    add(
        "--size",
        metavar="HxW",
        help="of the frames (default: what the network is made for, where it says so; else "
        "that of the pictures, where they are all alike)",
    )
    add(
        "--resize",
        choices=("cover", "stretch"),
        default="cover",
        help="cut pictures of another shape around their centre, or squeeze them (default cover)",
    )
    add(
        "--crop",
        type=float,
        default=1.0,
        metavar="SHARE",
        help="of each side, around the centre, cut out before resizing; 0.875 is 'to 256, then 224' (default 1)",
    )
    add(
        "--mean",
        type=float,
        nargs="+",
        default=[],
        metavar="M",
        help="of the frames, in [0, 1], by channel: for a network that wants them normalised and does not do it itself",
    )
    add("--std", type=float, nargs="+", default=[], metavar="S", help="standard deviation, goes with --mean")
    add(
        "--classes",
        metavar="NAMES",
        help="in the order of the network's outputs, with commas between, or a file with "
        "a name a line; FOLDER=NAME where a folder is called otherwise (default: the folders, in alphabetical order)",
    )
    add(
        "--held-out",
        type=float,
        metavar="SHARE",
        help="of each class, not learned from, whose error is told before "
        "and after (default: a folder val, valid, validation or test beside train; else 0.1 of pictures, 0 of CIFAR "
        "without --fine-tune)",
    )


def _add_bundle(bundle: "argparse._ArgumentGroup") -> None:
    add = bundle.add_argument
    where = bundle.add_mutually_exclusive_group()
    where.add_argument("--bundle", type=Path, metavar="FILE", help="where to write it (default: OUT.ecotta)")
    where.add_argument("--no-bundle", action="store_true", help="stop after the warm-up")
    add(
        "--normalisation",
        choices=NORMALISATIONS,
        default=ON_DEVICE.normalisation,
        help="whose statistics the norms use on the device (default running: of the stream so far)",
    )
    add(
        "--step-batch",
        type=batch_size,
        nargs="+",
        metavar="N",
        help="frames a step, a graph for each number (default 1; 64 with batch normalisation)",
    )
    add(
        "--learn",
        choices=("groups", "norms"),
        help="what learns on the device: the groups, or with them scale and shift of the network's own norms, as in "
        "TENT (default: groups; norms without --data and with batch normalisation, where that was measured to pay)",
    )
    groups, norms = ON_DEVICE, NORMS_STEP
    add(
        "--step-lr",
        type=float,
        metavar="LR",
        help=f"step size for 64 frames, less for fewer ({groups.lr:g}; {norms.lr:g} where norms learn)",
    )
    add(
        "--l1-weight",
        type=float,
        metavar="L",
        help=f"lambda, of the L1 that holds features ({groups.l1_weight:g}; {norms.l1_weight:g} where norms learn)",
    )
    add("--frame-by-frame", action="store_true", help="add graphs that learn from many frames in the memory of one")
    add("--fast", action="store_true", help="add steps that take more memory for less time, where there are some")
    add("--device", metavar="ID", help="leave out graphs that do not fit there; an error when none does")
    add("--gradient", choices=("exact", "constant"), default="exact", help="through batch statistics (default exact)")


def frame_size(args: argparse.Namespace) -> tuple[int, int] | None:
    """Height and width asked for."""
    if args.size is None:
        return None
    match = re.fullmatch(r"([0-9]{1,4})(?:x([0-9]{1,4}))?", args.size, re.ASCII)
    height, width = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    if min(height, width) < 1:
        raise UsageError(f"--size {args.size}: write height x width in pixels, such as 96x128, or 96 for 96x96")
    return height, width


def class_names(args: argparse.Namespace) -> tuple[str, ...]:
    """Names asked for, as `--classes` has them; none where it is not given."""
    if args.classes is None:
        return ()
    path = Path(args.classes)
    try:
        text = path.read_text(encoding="utf-8") if path.is_file() else args.classes.replace(",", "\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InputFileError(f"{path}: cannot be read ({error}); expected a class name a line, UTF-8") from error
    names = tuple(line.strip() for line in text.splitlines() if line.strip())
    if len(names) < 2:
        raise UsageError(f"--classes {args.classes}: {len(names)} names, expected at least 2")
    unprintable = next((name for name in names if not name.isprintable()), None)
    if unprintable is not None:
        raise UsageError(f"--classes: {unprintable!a} is not printable; names are shown to people")
    return names


def wants_norms(args: argparse.Namespace) -> bool:
    """Whether scale and shift of the network's own norms shall learn."""
    if args.learn is None:
        return args.data is None and args.normalisation in COUPLED
    return bool(args.learn == "norms")


def export_options(args: argparse.Namespace, norms_learn: bool) -> "ExportOptions":
    """What the bundle shall hold, as far as the command says it: what cannot be exported is said before the warm-up.

    Args:
        args: The command's.
        norms_learn: Whether the network's own norms learn.
    """
    from ecotta_rt.exporter.request import ExportOptions

    asked = {"lr": args.step_lr, "l1_weight": args.l1_weight}
    step = replace(
        NORMS_STEP if norms_learn else ON_DEVICE,
        normalisation=args.normalisation,
        frozen_gradient=args.gradient,
        frame_by_frame=args.frame_by_frame,
        **{name: value for name, value in asked.items() if value is not None},
    )
    batches = tuple(args.step_batch or ((64,) if step.normalisation in COUPLED else (1,)))
    device = None if args.device is None else load_device(args.device)
    return ExportOptions("", batches=batches, step=step, fast=args.fast, device=device)


def warm_up_options(args: argparse.Namespace) -> "WarmUpOptions":
    """The warm-up's recipe."""
    from ecotta_rt.prepare.augment import Augmentation
    from ecotta_rt.prepare.epochs import WarmUpOptions

    if args.precision == "bfloat16":
        require_bfloat16()
    same = {field.name: vars(args)[field.name] for field in fields(WarmUpOptions) if field.name in vars(args)}
    same["milestones"] = tuple(args.milestones)
    augmentation = Augmentation.parse(args.augment, args.augment_draws)
    return WarmUpOptions(**same, augmentation=augmentation, matched_start=not args.plain_start)
