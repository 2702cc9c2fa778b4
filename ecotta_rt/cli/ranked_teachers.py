"""Options of `ecotta student distil` for teachers that were trained for other tasks, and are ranked first."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ecotta_rt.errors import UsageError
from ecotta_rt.student.defaults import LABEL_SHARE, MEASURE, POWER

if TYPE_CHECKING:
    from ecotta_rt.student import RankedOptions

__all__ = ["RANKED", "add_ranked", "check_ranked", "ranked_options"]

RANKED = ("nearest", "weighted")
"""Methods whose teachers are these."""

_CONSTANTS = ("measure", "power", "label_share")


def add_ranked(parser: argparse.ArgumentParser) -> None:
    """Declare the options of these methods."""
    add = parser.add_argument_group("nearest and weighted").add_argument
    add(
        "--teachers",
        nargs="+",
        type=Path,
        default=[],
        metavar="NETWORKS",
        help="folders, files of ours or .toml, as for `ecotta student rank`",
    )
    add("--measure", metavar="NAME", help=f"what they are ranked by (default {MEASURE})")
    add("--power", type=float, metavar="P", help=f"weighted: weights are scores to this (default {POWER:g})")
    add(
        "--label-share",
        type=float,
        metavar="L",
        help=f"lambda, the labels' share of the loss (default {LABEL_SHARE:g})",
    )
    add("--leave-out", action="store_true", help="go on without networks that cannot be used")


def check_ranked(args: argparse.Namespace, method: str) -> None:
    """Refuse what does not go together, before anything is read. Raises UsageError."""
    if method not in RANKED:
        if args.teachers:
            raise UsageError(f"--teachers goes with --method {' or '.join(RANKED)}; {method} takes --teacher")
        if given := [
            name
            for name in (*_CONSTANTS, "leave_out")
            if vars(args)[name] is not None and vars(args)[name] is not False
        ]:
            said = ", ".join(f"--{name.replace('_', '-')}" for name in given)
            raise UsageError(f"{said}: goes with --method {' or '.join(RANKED)}, and {method} does not rank")
        return
    if not args.teachers:
        raise UsageError(f"--method {method} without --teachers: name the folder of networks")
    if args.teacher or args.teacher_checkpoint or args.teacher_epochs or args.keep_teachers or args.frozen_teacher:
        raise UsageError(f"--method {method} takes its teachers from --teachers, and leaves them as they are")
    if method == "nearest" and args.power is not None:
        raise UsageError("--power goes with --method weighted; nearest has one teacher, which weighs 1")


def ranked_options(args: argparse.Namespace, method: str) -> "RankedOptions":
    """As the command line has them, the others their defaults."""
    from ecotta_rt.student import RankedOptions

    given = {name: vars(args)[name] for name in _CONSTANTS if vars(args)[name] is not None}
    return RankedOptions(method, leave_out=args.leave_out, **given)  # type: ignore[arg-type]  # one of RANKED
