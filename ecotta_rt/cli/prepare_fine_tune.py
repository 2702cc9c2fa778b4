"""What `ecotta prepare --fine-tune` does before the warm-up."""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ecotta_rt.errors import UsageError
from ecotta_rt.messages import tell
from ecotta_rt.options import FIXED

if TYPE_CHECKING:
    from ecotta_rt.bundle import FrameSpec
    from ecotta_rt.data import LabelledSet, SourceData
    from ecotta_rt.prepare.epochs import WarmUpOptions
    from ecotta_rt.prepare.fine_tuning import FineTuned, Origin
    from ecotta_rt.state import AdaptState

__all__ = ["fine_tune", "fine_tune_options", "network_of_state", "origin", "require_labels"]

_LR = 0.01


def fine_tune_options(args: argparse.Namespace, options: "WarmUpOptions") -> "WarmUpOptions | None":
    """The recipe: the warm-up's, with passes and step size of its own; None: it was not asked for."""
    if args.fine_tune is None:
        if args.fine_tune_lr is not None:
            raise UsageError(f"--fine-tune-lr {args.fine_tune_lr:g} without --fine-tune: add --fine-tune 1, one pass")
        return None
    if args.fine_tune < 1:
        raise UsageError(f"--fine-tune {args.fine_tune}: passes over the pictures, at least 1; leave it out for none")
    lr = _LR if args.fine_tune_lr is None else args.fine_tune_lr
    if not 0 < lr < 1:
        raise UsageError(f"--fine-tune-lr {lr:g}: a step size above 0 and below 1; {_LR:g} is the default")
    return replace(options, epochs=args.fine_tune, lr=lr, matched_start=True, statistics_frames=None)


def require_labels(args: argparse.Namespace, data: "LabelledSet | None") -> None:
    """Refuse data that say nothing of the classes."""
    from ecotta_rt.data import LabelledArrays, LabelledPictures

    if args.fine_tune is not None and not isinstance(data, LabelledArrays | LabelledPictures):
        raise UsageError(
            "--fine-tune needs labelled pictures: give --data a folder of class folders, without --unlabelled; from "
            "its own answers the whole network would learn its mistakes"
        )


def origin(args: argparse.Namespace) -> "Origin":
    """Of the network, for the file of the fine-tuned one."""
    from ecotta_rt.prepare.fine_tuning import Origin

    return Origin(args.network, args.checkpoint, "" if args.data is None else Path(args.data).name)


def network_of_state(args: argparse.Namespace, network: Any, state: "AdaptState", target: Path, out: Path) -> Any:
    """What a warmed-up state fits that exists: `network`, an `nn.Module`, or the fine-tuned one."""
    from ecotta_rt.prepare.fine_tuning import fine_tuned_path, load_fine_tuned

    if "fine_tuned" in state.metadata:
        path = fine_tuned_path(out)
        tell("ecotta prepare", f"{target} was warmed up on the fine-tuned network {path}")
        return load_fine_tuned(network, path)
    if args.fine_tune is not None and "fine_tuning_left_out" not in state.metadata:
        raise UsageError(f"{target} exists and was warmed up without --fine-tune; --force warms up again")
    return network


def fine_tune(
    args: argparse.Namespace,
    network: Any,
    frames: "SourceData",
    frame: "FrameSpec",
    out: Path,
    options: "WarmUpOptions",
) -> "FineTuned":
    """Train the network, and say what it did to held-out pictures."""
    from ecotta_rt.cli.progress import TrainingProgress
    from ecotta_rt.prepare.fine_tuning import fine_tuned, fine_tuned_path
    from ecotta_rt.prepare.looks import Looks

    with TrainingProgress("fine-tuning") as progress:
        looks = None
        if frames.held_out is not None:
            how: dict[str, Any] = {"parts": args.parts, "batch": options.batch, "seed": args.seed}
            how["normalisation"] = "source" if args.normalisation in FIXED else "batch"
            looks = Looks(frames.held_out, **how, tell=progress.say)
        return fine_tuned(
            network,
            frames,
            fine_tuned_path(out),
            options,
            origin=origin(args),
            frame=frame,
            looks=looks,
            force=args.force,
            report=progress,
            tell=progress.say,
        )
