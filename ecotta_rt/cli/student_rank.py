"""Rank networks that were trained for other tasks by how much they know of yours.

A few labelled pictures of your task are shown to each network. One whose features are alike where your labels are, and
differ where those do, knows something that a student can learn from it, whatever its own classes are. Nothing is
trained; a network and 200 pictures take seconds. The weights are those that `ecotta student distil --method weighted`
gives the networks.

NETWORKS is any number of
  FOLDER        the network files of ours in it (.safetensors)
  FILE          one of them
  FILE.toml     networks of others: a table each, which says what network a checkpoint belongs to

    [birds]
    network = "zoo.py:birds"           FILE.py:FACTORY, PACKAGE.MODULE:FACTORY, a model id or a file of ours
    checkpoint = "birds.pth"           .pt, .pth, .th or .safetensors
    mean = [0.485, 0.456, 0.406]       where the network does not normalise its frames itself
    std = [0.229, 0.224, 0.225]
    size = 224                         where nothing else says what frames it was made for

Paths are relative to that file. A FACTORY is code that is run: a TOML file is read only where it is named here, never
because it lies in a folder. A network that cannot be used is an error that names it; --leave-out goes on without it.

measures (the first that is named ranks and weighs):
  logme      evidence of linear models from features to labels; the steadiest where labels are few
  parc       rank correlation of distances between features and between labels; 0 is chance, 100 the most; the choice of
             the paper that weighs teachers so, and good from some hundred labels on
  cka        alignment of linear kernels of features and labels; 0 to 1
  h-score    how much of the features' variance lies between classes, with a shrunk covariance
  leep       log-likelihood of the labels, given the network's own answers

examples:
  ecotta student rank networks/ --data few/                few/CLASS/PICTURE, ten a class are a beginning
  ecotta student rank networks/ others.toml --data few/ --plot weights.svg
  ecotta student rank networks/ --data few/ --measure parc logme leep
  ecotta student rank networks/ --data few/ --power 4 --json ranking.json
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ecotta_rt.cli.json_option import STDOUT, add_json, check_json, write_json
from ecotta_rt.cli.parser import integer, thread_count
from ecotta_rt.cli.prepare_options import class_names, frame_size
from ecotta_rt.files.figure import check_figure
from ecotta_rt.messages import in_columns, show, tell
from ecotta_rt.student.defaults import MEASURE, PICTURES, POWER

if TYPE_CHECKING:
    from ecotta_rt.student.ranking import Ranking

__all__ = ["NAME", "SCHEMA", "add_arguments", "run"]

NAME = "rank"

SCHEMA = 1
"""Version of the JSON object."""

_TITLE = "ecotta student rank"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add = parser.add_argument
    add("networks", metavar="NETWORKS", nargs="+", type=Path, help="folders, files of ours or .toml, see above")
    add(
        "--data",
        metavar="DATA",
        required=True,
        help="labelled pictures of your task: a folder of class folders, a CIFAR (binary) or Fashion-MNIST (idx) "
        "folder, or a .npz file with x_train and y_train",
    )
    add("--classes", metavar="NAMES", help="names by label, with commas between, or a file with a name a line")
    add("--frames", type=integer, default=PICTURES, metavar="N", help=f"look at N at most (default {PICTURES})")
    add(
        "--size",
        metavar="HxW",
        help="of the frames that a device will see (default: the largest that a network is made for); each network "
        "gets them resized to its own",
    )
    add("--measure", nargs="+", default=[MEASURE, "parc"], metavar="NAME", help=f"see above (default {MEASURE} parc)")
    add(
        "--power",
        type=float,
        default=POWER,
        metavar="P",
        help=f"weights are scores to this power; 0: all the same (default {POWER:g}, as published)",
    )
    add("--leave-out", action="store_true", help="go on without networks that cannot be used")
    add("--plot", type=Path, metavar="FILE", help="draw the weights (.png or .svg)")
    add("--seed", type=integer, default=0, help="of the choice of --frames (default 0)")
    add("--threads", type=thread_count, metavar="N", help="threads (default: torch's choice)")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Look, print, write."""
    from ecotta_rt.cli.student_watch import ShownWatch
    from ecotta_rt.prepare.pipeline import use_threads
    from ecotta_rt.student import Pictures, rank

    check_json(args.json, *args.networks, args.data)
    if args.plot is not None:
        check_figure(args.plot)
    use_threads(args.threads)
    ranking = rank(
        args.networks,
        args.data,
        measures=args.measure,
        power=args.power,
        pictures=Pictures(class_names(args), args.frames, frame_size(args)),
        leave_out=args.leave_out,
        seed=args.seed,
        watch=ShownWatch(_TITLE),
    )
    if args.plot is not None:
        from ecotta_rt.student.weights_plot import draw_weights_plot

        draw_weights_plot(ranking, args.plot)
    if args.json != STDOUT:
        _print(ranking)
    write_json(args.json, _facts(args, ranking))
    return 0


def _print(ranking: "Ranking") -> None:
    first = ranking.measures[0]
    rows = [("network", "classes", *ranking.measures, "weight")]
    for one in ranking.sources:
        scores = [f"{one.scores[name]:.{_digits(name)}f}" for name in ranking.measures]
        if one.error is not None:
            scores[0] += f" ± {one.error:.{_digits(first)}f}"
        rows.append((one.name, str(one.classes), *scores, f"{one.weight:.3f}"))
    pictures = f"{ranking.pictures} labelled pictures of {ranking.classes} classes"
    show(f"{pictures}; weights by {first}, power {ranking.power:g}")
    show(in_columns(rows, right=range(1, len(rows[0]))))
    for without in ranking.left_out:
        show(f"left out: {without.name}: {without.why}")
    for doubt in ranking.doubts():
        tell(_TITLE, f"warning: {doubt}")


def _digits(measure: str) -> int:
    return 1 if measure == "parc" else 3


def _facts(args: argparse.Namespace, ranking: "Ranking") -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "data": args.data,
        "pictures": ranking.pictures,
        "classes": ranking.classes,
        "frame": list(ranking.frame or ()),
        "measures": list(ranking.measures),
        "power": ranking.power,
        "related": ranking.related,
        "networks": [
            {
                "name": one.name,
                "classes": one.classes,
                "scores": dict(one.scores),
                "standard_error": one.error,
                "weight": one.weight,
                "digest": one.digest,
            }
            for one in ranking.sources
        ],
        "left_out": [{"name": one.name, "why": one.why} for one in ranking.left_out],
    }
