"""Find out what pays for a network on its own source pictures, corrupted, and write it into the bundle.

Labelled pictures are corrupted here and played to the bundle in two orders, shuffled and in runs of one class, coming
to each corruption twice. One setting at a time is tried against the present ones: how statistics follow the stream
(de-classed, plain or held at the source), which answer is given (filtered or not), whether places are remembered,
two views of each frame (--mirror), learning by gradients. About two minutes for a network of 8 ms a frame.

A setting is changed where it makes fewer errors by two standard errors of the difference or more: five or six are
compared, and at one noise alone would change some. What saves forward passes, learning or a second view left out, is
changed where it is no worse by as much and a loss of more than a point is ruled out. Several changes are tried
together, and where that is no better than the best alone, that one is made. With fewer than 250 frames an order nothing
is changed. The bundle is rewritten, whole or not at all, only where something changes; its graphs and weights stay as
they are. What is learned here in a minute says little of long stays.

How sure the network is of its answers is compared with how often they are right, and the temperature that makes up for
it is written into the bundle, too: with it `ecotta serve` says how many of its answers are likely to be wrong.

Pictures: those held out where the folder has some (val beside train), else those of the training. Corrupting them
needs scipy: pip install '.[bench]' in a checkout of ecotta_rt.

examples:
  ecotta tune net.ecotta --data pictures/
  ecotta tune net.ecotta --data pictures/ --mirror         mirroring a picture keeps its class
  ecotta tune net.ecotta --data pictures/ --dry-run        print the table, write nothing
  ecotta tune net.ecotta --data cifar-10-batches-bin --frames 400 --seed 1
  ecotta tune net.ecotta --data pictures/ --corruptions fog snow contrast --json tuned.json
"""

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ecotta_rt.cli.json_option import STDOUT, add_json, check_json, write_json
from ecotta_rt.cli.parser import integer
from ecotta_rt.errors import UsageError
from ecotta_rt.messages import in_columns, on_terminal, show, tell

if TYPE_CHECKING:
    from ecotta_rt.bench.tuning.streams import Played
    from ecotta_rt.bench.tuning.tuning import Report
    from ecotta_rt.bundle import Bundle

    Say = Callable[[int, int, str], None]

__all__ = ["NAME", "add_arguments", "run"]

NAME = "tune"

_CORRUPTIONS = ("gaussian_noise", "defocus_blur", "fog", "contrast", "jpeg_compression")
_FRAMES, _LEAST_FRAMES = 150, 20
_SAME_TEMPERATURE = 0.05
_GUESSES = (
    "warning: on these pictures the network is hardly better than guessing, so differences say little; is the order of "
    "the classes (--classes) that of its outputs, and does a lower --severity help?"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add = parser.add_argument
    add("bundle", metavar="BUNDLE", type=Path, help="a bundle (.ecotta), which is rewritten")
    add(
        "--data",
        metavar="DATA",
        required=True,
        help="labelled source pictures: a folder of class folders, a CIFAR (binary) or Fashion-MNIST (idx) folder, or "
        "fashion-mnist-c, the embedded sample",
    )
    add(
        "--classes",
        metavar="NAMES",
        help="in the order of the bundle's outputs, with commas between, or a file with a name a line; FOLDER=NAME "
        "where a folder is called otherwise (default: the bundle's own)",
    )
    add("--frames", type=integer, default=_FRAMES, metavar="N", help=f"of each corruption an order (default {_FRAMES})")
    add(
        "--corruptions",
        nargs="+",
        default=list(_CORRUPTIONS),
        metavar="NAME",
        help=f"which (default {' '.join(_CORRUPTIONS)})",
    )
    add("--severity", type=integer, default=5, metavar="S", help="of the corruptions, 1 to 5 (default 5)")
    add("--seed", type=integer, default=0, help="of pictures, orders and corruptions (default 0)")
    add("--mirror", action="store_true", help="mirroring a picture keeps its class: try the mean of both views")
    add("--dry-run", action="store_true", help="print the table and write nothing")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Measure, print, write."""
    from ecotta_rt.bench.tuning.tuning import Tuning
    from ecotta_rt.bundle import read_bundle
    from ecotta_rt.bundle.rewriting import rewrite_adaptation
    from ecotta_rt.cli.progress import WorkProgress
    from ecotta_rt.files.atomic import check_target

    _check(args)
    bundle = read_bundle(args.bundle)
    tuning = Tuning(bundle, args.mirror)
    make = _streams(args, bundle)
    if not args.dry_run:
        check_target(args.bundle)
    check_json(args.json, args.bundle)
    with WorkProgress("ecotta tune: making the streams") as progress:
        streams = make(progress.update)
    if min(len(stream.labels) for stream in streams) < 2 * tuning.batch:
        raise UsageError(f"--frames {args.frames}: the bundle answers {tuning.batch} at once; give more")
    _warn_of_few(args, min(len(stream.labels) for stream in streams))
    with WorkProgress("ecotta tune") as progress:
        report = tuning.run(streams, progress.update if on_terminal() else _with_time_left(progress.update))
    told = _temperature(bundle, report)
    writes = (report.chosen != report.present or bool(told)) and not args.dry_run
    if report.guesses:
        tell("ecotta tune", _GUESSES)
    if args.json != STDOUT:
        _print(args, report, streams)
    if writes:
        rewrite_adaptation(bundle, vars(report.chosen), {"tuned": _recipe(args, streams), **told})
    if args.json != STDOUT:
        show(f"{args.bundle}: {'written' if writes else 'nothing written'}")
    facts = {"schema": 1, "bundle": str(args.bundle), "streams": _recipe(args, streams), "written": writes}
    write_json(args.json, {**facts, **report.as_json()})
    return 0


def _check(args: argparse.Namespace) -> None:
    from ecotta_rt.data.corruptions import SEVERITIES, check_corruption, require_packages

    require_packages()
    for name in args.corruptions:
        check_corruption(name)
    if len(set(args.corruptions)) < len(args.corruptions):
        raise UsageError(f"--corruptions {' '.join(args.corruptions)}: name each once")
    if args.severity not in SEVERITIES:
        raise UsageError(f"--severity {args.severity}: it goes from 1 (slight) to 5 (severe)")
    if args.seed < 0:
        raise UsageError(f"--seed {args.seed}: it must not be negative")
    if args.frames < _LEAST_FRAMES:
        raise UsageError(f"--frames {args.frames}: too few to tell anything; at least {_LEAST_FRAMES} of a corruption")


def _warn_of_few(args: argparse.Namespace, fewest: int) -> None:
    from ecotta_rt.bench.tuning.tuning import LEAST_FRAMES

    if fewest < LEAST_FRAMES:
        more = -(-args.frames * LEAST_FRAMES // fewest)
        tell(
            "ecotta tune",
            f"warning: {fewest} frames in an order are too few to change anything, at least {LEAST_FRAMES} are needed; "
            f"give --frames {more} or more",
        )


def _with_time_left(update: "Say") -> "Say":
    """For lines; a bar tells it itself."""
    began_s = time.monotonic()

    def say(done: int, total: int, what: str) -> None:
        left_s = (time.monotonic() - began_s) * (total - done) / max(done, 1)
        update(done, total, f"{what}, about {left_s:.0f} s to go; so far")

    return say


def _streams(args: argparse.Namespace, bundle: "Bundle") -> Callable[["Say"], Sequence["Played"]]:
    """Look at the pictures now, and make streams of them later."""
    from ecotta_rt.bench.tuning.pictures import open_pictures
    from ecotta_rt.bench.tuning.streams import make_streams, require_corruptible
    from ecotta_rt.cli.prepare_options import class_names
    from ecotta_rt.files.temporary import temporary_folder

    require_corruptible(bundle.manifest.frame)
    pictures = open_pictures(args.data, bundle.manifest, class_names(args))

    def make(say: "Say") -> Sequence["Played"]:
        import tempfile

        how: dict[str, Any] = {"severity": args.severity, "seed": args.seed, "say": say}
        with temporary_folder(tempfile.gettempdir(), "ecotta-tune-") as folder:
            store = folder / "frames"
            return make_streams(pictures, bundle.manifest.frame, args.corruptions, args.frames, store=store, **how)

    return make


def _temperature(bundle: "Bundle", report: "Report") -> dict[str, str]:
    """For the bundle's metadata; nothing where it has the same, but for noise."""
    from ecotta_rt.runtime.recipe import TEMPERATURE

    if report.temperature is None:
        return {}
    try:
        known = float(bundle.manifest.metadata.get(TEMPERATURE, "nan"))
    except ValueError:
        known = float("nan")
    same = abs(report.temperature - known) <= _SAME_TEMPERATURE * known
    return {} if same else {TEMPERATURE: f"{report.temperature:.3f}"}


def _recipe(args: argparse.Namespace, streams: Sequence["Played"]) -> str:
    counts = " + ".join(f"{len(stream.labels):,} frames {stream.order}" for stream in streams)
    return f"{counts}; {', '.join(args.corruptions)}; severity {args.severity}, seed {args.seed}"


def _print(args: argparse.Namespace, report: "Report", streams: Sequence["Played"]) -> None:
    from ecotta_rt.runtime.recipe import described

    show(f"errors in %, ± standard error: {_recipe(args, streams)}")
    show(f"as it is: {described(report.present)}")
    show("")
    rows = [("", *(stream.order for stream in streams), "mean", "gain", "ms a frame", "")]
    for row in report.rows:
        figures = [str(figure) for figure in (*row.orders, row.error, row.gain or "")]
        rows.append((row.setting, *figures, f"{row.milliseconds_a_frame:.1f}", "changed" if row.changes else ""))
    show(in_columns(rows, right=range(1, 4 + len(streams))))
    show("")
    for line in report.not_tried:
        tell("ecotta tune", line)
    chosen, present = described(report.chosen), described(report.present)
    same = "nothing else pays beyond doubt: it stays" if report.enough else "too few frames to tell: it stays"
    show(f"{same} as it is" if chosen == present else f"chosen: {chosen}")
    if report.temperature is not None:
        show(f"temperature of its answers: {report.temperature:.2f}{_meaning(report.temperature)}")


def _meaning(temperature: float) -> str:
    if temperature > 1 + _SAME_TEMPERATURE:
        return ", it is surer than it may be"
    return ", it is less sure than it may be" if temperature < 1 - _SAME_TEMPERATURE else ""
