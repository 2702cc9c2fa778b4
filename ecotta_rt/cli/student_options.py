"""What the commands of `ecotta student` have in common: data, recipe and progress."""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ecotta_rt.cli.json_option import add_json
from ecotta_rt.cli.parser import batch_size, integer, thread_count
from ecotta_rt.cli.prepare_options import USUAL_AUGMENTATION, class_names, frame_size
from ecotta_rt.cli.progress import WorkProgress
from ecotta_rt.errors import UsageError
from ecotta_rt.messages import on_terminal, tell

if TYPE_CHECKING:
    from ecotta_rt.bundle import FrameSpec
    from ecotta_rt.student.domains import Domains, FoundDomains
    from ecotta_rt.student.training import StudentProgress, TrainingOptions

__all__ = [
    "EpochProgress",
    "add_data",
    "add_recipe",
    "choose_frame",
    "decoded",
    "look_at_domains",
    "targets_by_name",
    "training_options",
]

_SHOWN_FILES = 10


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


def look_at_domains(args: argparse.Namespace) -> "FoundDomains":
    """What `--source` and `--target` name, before anything is decoded."""
    from ecotta_rt.student.domains import find_domains

    return find_domains(
        args.source,
        targets_by_name(args),
        classes=class_names(args),
        plain_targets=args.plain_targets,
        count=args.frames,
        seed=args.seed,
    )


def choose_frame(
    args: argparse.Namespace, made_for: tuple[int, int] | None, found: "FoundDomains", channels: int = 3
) -> "FrameSpec":
    """The frames that all networks take.

    Args:
        args: With `size` and `resize`.
        made_for: What the networks say they are made for; None where they do not.
        found: Of which the source's pictures say it where nobody else does.
        channels: 3, or 1 for grey frames.

    Raises:
        UsageError: As `student_frame`, or pictures that differ in size.
    """
    from ecotta_rt.student.frame_limit import student_frame

    return student_frame(frame_size(args) or made_for or found.common_size(), channels, args.resize)


def decoded(found: "FoundDomains", frame: "FrameSpec", store: Path, title: str) -> "Domains":
    """Frames of all domains, with a bar; says how many there are and which files gave none."""
    with WorkProgress("decoding pictures") as progress:
        domains = found.frames(frame, store, progress.update)
    for left in domains.left_out[:_SHOWN_FILES]:
        tell(title, f"left out: {left.path}: {left.why}")
    if len(domains.left_out) > _SHOWN_FILES:
        tell(title, f"left out: {len(domains.left_out) - _SHOWN_FILES} more")
    counts = [f"{len(domain.frames):,} of {domain.name}" for domain in (domains.source, *domains.targets)]
    size = f"{frame.height} x {frame.width}, {frame.colour}"
    tell(title, f"pictures: {', '.join(counts)}; {len(domains.classes)} classes; frames {size}")
    return domains


class EpochProgress(WorkProgress):
    """Progress to hand to `train` as `report`; where there is no bar, a line an epoch too, with the time left."""

    def __call__(self, progress: "StudentProgress") -> None:
        """Show one step."""
        means = "  ".join(f"{name} {value:.3f}" for name, value in progress.means.items())
        left = "" if on_terminal() else f"  about {progress.seconds_left:.0f} s to go"
        self.update(progress.step, progress.steps, f"epoch {progress.epoch}/{progress.epochs}  {means}{left}")
        if progress.step % max(1, progress.steps // progress.epochs) == 0:
            self.show_line()
