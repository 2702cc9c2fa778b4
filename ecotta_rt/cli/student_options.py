"""What the commands of `ecotta student` have in common: data, recipe and progress."""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ecotta_rt.cli.json_option import add_json
from ecotta_rt.cli.parser import batch_size, integer, thread_count
from ecotta_rt.cli.prepare_options import USUAL_AUGMENTATION, class_names, frame_size
from ecotta_rt.errors import UsageError

if TYPE_CHECKING:
    from ecotta_rt.student import Pictures, TrainingOptions

__all__ = ["add_data", "add_recipe", "pictures_of", "targets_by_name", "training_options"]


def add_data(parser: argparse.ArgumentParser, *, source: bool = True) -> None:
    """Declare where pictures come from.

    Args:
        parser: Of the command.
        source: Whether there is a labelled source domain.
    """
    add = parser.add_argument
    if source:
        add(
            "--source",
            metavar="DATA",
            required=True,
            help="labelled pictures: a folder of class folders, a CIFAR (binary) or Fashion-MNIST (idx) folder, or a "
            ".npz file with x_train and y_train",
        )
    add(
        "--target",
        metavar="NAME=DATA",
        action="append",
        default=[],
        help="unlabelled pictures of a target domain: a folder, or what --source takes, its labels left alone; may be "
        "given more than once",
    )
    add("--plain-targets", action="store_true", help="folders inside of targets are no classes (dates, cameras)")
    add("--classes", metavar="NAMES", help="names by label, with commas between, or a file with a name a line")
    add("--frames", type=integer, metavar="N", help="use at most N pictures of each domain, chosen at random")
    add("--size", metavar="HxW", help="of the frames (default: what the networks are made for, else that of --source)")
    add(
        "--resize",
        choices=("cover", "stretch"),
        default="cover",
        help="cut pictures of another shape around their centre, or squeeze them (default cover)",
    )


def add_recipe(parser: argparse.ArgumentParser, *, epochs: int = 10, batch: int = 32, lr: float = 0.01) -> None:
    """Declare how it is trained, with the command's own defaults; and --json."""
    add = parser.add_argument
    add("--epochs", type=integer, default=epochs, help=f"passes over the source (default {epochs})")
    add("--batch", type=batch_size, default=batch, help=f"frames of each domain a step (default {batch})")
    add("--lr", type=float, default=lr, help=f"step size of SGD at the beginning (default {lr:g})")
    add("--momentum", type=float, default=0.9, help="of SGD (default 0.9)")
    add("--weight-decay", type=float, default=5e-4, help="of SGD (default 0.0005)")
    add(
        "--rate",
        choices=("dann", "cosine", "constant"),
        default="dann",
        help="how the step size falls over the run: lr / (1 + 10 p)^0.75, a cosine to 0, or not (default dann)",
    )
    add(
        "--augment",
        default=USUAL_AUGMENTATION,
        metavar="NAME[:STRENGTH],...",
        help=f"done to every frame, as in `ecotta prepare` (default {USUAL_AUGMENTATION}; none)",
    )
    add("--seed", type=integer, default=0, help="of first weights, orders and augmentation (default 0)")
    add("--threads", type=thread_count, metavar="N", help="threads (default: torch's choice)")
    add_json(parser)


def targets_by_name(args: argparse.Namespace, option: str = "target") -> Mapping[str, str]:
    """What `--target`, or another such option, names, in that order.

    Raises:
        UsageError: Not NAME=DATA, a name twice, or one that cannot stand in a file's name.
    """
    found: dict[str, str] = {}
    for text in vars(args)[option]:
        name, equals, data = text.partition("=")
        if not equals or not name or not data:
            raise UsageError(f"--{option} {text!r}: expected NAME=DATA, for example --{option} door=pictures/door")
        if not name.isprintable() or name != Path(name).name or name == "source":
            raise UsageError(f"--{option} {text!r}: {name!r} is no name for a domain; use letters, digits and dashes")
        if name in found:
            raise UsageError(f"--{option} names {name!r} twice; give each domain a name of its own")
        found[name] = data
    return found


def training_options(args: argparse.Namespace) -> "TrainingOptions":
    """The recipe that the options say."""
    from ecotta_rt.prepare.augment import Augmentation
    from ecotta_rt.student.training import TrainingOptions

    return TrainingOptions(
        epochs=args.epochs,
        batch=args.batch,
        lr=args.lr,
        momentum=args.momentum,
        weight_decay=args.weight_decay,
        rate=args.rate,
        augmentation=Augmentation.parse(args.augment),
        seed=args.seed,
    )


def pictures_of(args: argparse.Namespace) -> "Pictures":
    """How pictures are looked at, as the command line has it."""
    from ecotta_rt.student import Pictures

    return Pictures(class_names(args), args.frames, frame_size(args), args.resize, args.plain_targets)
