"""Show a network adapting to a stream, in about a minute and without data: both are shipped with ecotta_rt.

Small grey pictures of clothes, corrupted in 15 ways, come one at a time, and one network answers them four times over,
each time with one thing more: as it came; warmed up (with the meta groups, which were trained on augmented training
pictures beforehand; nothing moves); with statistics that follow the stream; and learning from each frame, without its
label. A device install is enough, and no network connection is used.

examples:
  ecotta demo
  ecotta demo --quick                   a few seconds
  ecotta demo --frames 20 --seed 1      other frames, in another order
  ecotta demo --plot demo.svg           the errors as a picture
  ecotta demo --json                    JSON to stdout alone; --json FILE writes it beside the text
"""

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ecotta_rt.cli.json_option import STDOUT, add_json, check_json, write_json
from ecotta_rt.cli.parser import integer, thread_count
from ecotta_rt.errors import UsageError
from ecotta_rt.files.output import check_output, write_output

if TYPE_CHECKING:  # all need numpy, which --help does not
    from ecotta_rt.demo.ladder import Outcome, Watcher
    from ecotta_rt.demo.shipped import Stream

__all__ = ["NAME", "add_arguments", "run"]

NAME = "demo"

_QUICK = 8  # frames of each corruption
_CLEAR = "\r\x1b[K"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--frames", metavar="N", type=integer, help="frames of each corruption (all that are shipped)")
    length.add_argument("--quick", action="store_true", help=f"{_QUICK} frames of each corruption")
    add = parser.add_argument
    add("--seed", metavar="S", type=integer, default=0, help="which frames, and in which order (0: as shipped)")
    add("--threads", metavar="N", type=thread_count, default=1, help="threads of the network (1)")
    add_json(parser)
    add("--plot", metavar="FILE", type=Path, help="draw the errors, as SVG")


def run(args: argparse.Namespace) -> int:
    """Play the shipped stream."""
    _check(args)
    from ecotta_rt.demo.ladder import climb
    from ecotta_rt.demo.shipped import read_stream, unpacked_bundle
    from ecotta_rt.demo.text import facts

    stream = read_stream(_QUICK if args.quick else args.frames, args.seed)
    quiet = args.json == STDOUT
    if not quiet:
        _begin(stream)
    with unpacked_bundle() as bundle:
        outcome = climb(bundle, stream, _nothing if quiet else _live_row(), args.threads)
    write_json(args.json, facts(stream, outcome))
    if args.plot is not None:
        from ecotta_rt.demo.picture import draw

        write_output(args.plot, draw(stream, outcome).encode())
    if not quiet:
        _end(stream, outcome)
    return 0


def _check(args: argparse.Namespace) -> None:
    if args.threads < 1:
        raise UsageError(f"--threads {args.threads}: give 1 or more")
    if args.plot is not None and args.plot.suffix.lower() != ".svg":
        raise UsageError(f"--plot {args.plot}: the demo draws SVG alone; name a file that ends in .svg")
    check_json(args.json)
    if args.plot is not None:
        check_output("--plot", args.plot)


def _begin(stream: "Stream") -> None:
    from ecotta_rt.demo.text import heading

    corruptions, frames = stream.labels.shape
    print(
        f"{corruptions} corruptions x {frames} frames, one at a time; each column adds one thing to the one before it\n"
    )
    print(heading(), flush=True)


def _nothing(corruption: str, wrong: object, over: bool) -> None:
    pass


def _live_row() -> "Watcher":
    """Rows that grow on a terminal; elsewhere each is a line when it is whole."""
    from ecotta_rt.demo.text import row

    live = sys.stdout.isatty() and os.environ.get("TERM") != "dumb"

    def show(corruption: str, wrong: object, over: bool) -> None:
        if live or over:
            text = row(corruption, wrong)  # type: ignore[arg-type]
            print(f"{_CLEAR if live else ''}{text}", end="\n" if over else "", flush=True)

    return show


def _end(stream: "Stream", outcome: "Outcome") -> None:
    from ecotta_rt.demo.text import bars, closing, mean_row

    print(mean_row(outcome))
    print(f"\n{bars(outcome, sys.stdout.encoding)}\n\n{closing(stream, outcome)}")
