"""Train one network that runs at any width, for boards of every size: a bank, from which `pick` takes what fits.

Needs labelled pictures of a source domain, and pictures without labels of the places where devices will hang. In each
step the largest width, the smallest and some random ones learn from the same pictures (SlimDA): two classifiers confuse
the domains, so that features are those of both; a third, the one that is used, learns what all widths say together.

NETWORK is a model id (resnet-20, ...), a network file of ours, or FILE.py:FACTORY, with its weights in --checkpoint; a
student of `ecotta student distil` is a good beginning. Channels are found by following them through the network; those
that cannot be removed stay, and the node that is the reason is named.

Writes the bank: the weights at full width and up to 512 of the target's frames, by which widths are ranked and get
their norms' statistics. A run that was interrupted goes on after its last whole epoch.

examples:
  ecotta student slim resnet-20 --source pictures/ --target door=door/ --out bank.safetensors
  ecotta student slim student.safetensors --source mnist.npz --target usps=usps.npz --epochs 30 --batch 64
  ecotta student slim my_net.py:make --checkpoint my_net.pt --source all/ --target yard=yard/ --size 96 --least 0.25
"""

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ecotta_rt.cli.input_files import require_network
from ecotta_rt.cli.json_option import STDOUT, check_json, write_json
from ecotta_rt.cli.parser import integer
from ecotta_rt.cli.student_options import add_data, add_recipe, pictures_of, targets_by_name, training_options
from ecotta_rt.errors import UsageError
from ecotta_rt.files.atomic import check_target
from ecotta_rt.messages import show

if TYPE_CHECKING:
    from ecotta_rt.student.slimda.bank import Bank
    from ecotta_rt.student.slimda.training import SlimOptions

__all__ = ["NAME", "add_arguments", "run"]

NAME = "slim"

_TITLE = "ecotta student slim"
_SUFFIX = ".safetensors"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add("network", metavar="NETWORK", help="model id, network file of ours, or FILE.py:FACTORY")
    add("--checkpoint", type=Path, metavar="FILE", help="weights that it begins with")
    add(
        "-o",
        "--out",
        type=Path,
        default=Path("bank.safetensors"),
        metavar="FILE",
        help="the bank (default bank.safetensors)",
    )
    add_data(parser)
    add_recipe(parser, epochs=20, lr=0.05)
    group = parser.add_argument_group("widths")
    add = group.add_argument
    add(
        "--least",
        type=float,
        default=0.125,
        metavar="R",
        help="channels at the smallest width, a share (default 0.125)",
    )
    add("--sampled", type=integer, default=4, metavar="N", help="widths a step (default 4)")
    add(
        "--confidence",
        choices=("rank", "operations", "uniform"),
        default="rank",
        help="how much each width counts in what they say together (default rank: by order of size)",
    )
    add("--temperature", type=float, default=0.5, metavar="T", help="sharpens what they say (default 0.5)")
    add("--seed-weight", type=float, default=1.0, metavar="W", help="of learning from what they say (default 1)")
    add(
        "--source-share",
        type=float,
        default=0.2,
        metavar="S",
        help="of the epochs, in which only the source is learned, at the beginning (default 0.2)",
    )
    parser.add_argument("--force", action="store_true", help="replace FILE where it exists")


def run(args: argparse.Namespace) -> int:
    """Look at everything, train, write, tell."""
    _check(args)
    from ecotta_rt.cli.student_watch import ShownWatch
    from ecotta_rt.prepare.pipeline import use_threads
    from ecotta_rt.student import slim

    began_s = time.monotonic()
    use_threads(args.threads)
    options = _slim_options(args)
    made = slim(
        args.network,
        args.source,
        targets_by_name(args),
        options=options,
        training=training_options(args),
        pictures=pictures_of(args),
        checkpoint=args.checkpoint,
        out=args.out,
        watch=ShownWatch(_TITLE),
    )
    bank = made.bank
    if args.json != STDOUT:
        show(f"{args.out}: {_range(bank)}; {len(bank.frames)} frames of the target are in it")
    facts: dict[str, Any] = {"schema": 1, "network": args.network, "file": str(args.out), **bank.recipe}
    facts |= {"groups": {each: group.size for each, group in bank.slimmable.groups.groups.items()}}
    facts |= {"notes": list(bank.slimmable.groups.notes), "history": [dict(epoch) for epoch in made.history]}
    write_json(args.json, {**facts, "minutes": (time.monotonic() - began_s) / 60})
    return 0


def _check(args: argparse.Namespace) -> None:
    """What can be refused before torch is imported."""
    require_network(args.network, args.checkpoint)
    if args.out.suffix != _SUFFIX:
        raise UsageError(f"--out {args.out}: a bank is a {_SUFFIX} file")
    if args.out.exists() and not args.force:
        raise UsageError(f"{args.out} exists; --force replaces it, --out chooses another name")
    check_target(args.out)
    check_json(args.json, args.network, args.checkpoint, args.out)


def _slim_options(args: argparse.Namespace) -> "SlimOptions":
    from ecotta_rt.student.slimda.training import SlimOptions

    return SlimOptions(
        least=args.least,
        sampled=args.sampled,
        confidence=args.confidence,
        temperature=args.temperature,
        seed_weight=args.seed_weight,
        source_share=args.source_share,
    )


def _range(bank: "Bank") -> str:
    from ecotta_rt.student.slimmable.widths import at_ratio, operations

    groups = bank.slimmable.groups
    least, most = operations(groups, at_ratio(groups, bank.least)), operations(groups, groups.whole())
    return f"any width from {least / 1e6:.2f} to {most / 1e6:.2f} million operations a frame"
