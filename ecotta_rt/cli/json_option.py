"""The option --json of commands that print for people too."""

import argparse
import json
import os
from collections.abc import Mapping

from ecotta_rt.files.output import check_output, write_output

__all__ = ["STDOUT", "add_json", "check_json", "write_json"]

STDOUT = "-"
"""What a bare --json stands for: nothing else is printed then."""


def add_json(parser: argparse.ArgumentParser) -> None:
    """Declare it."""
    text = "write JSON to FILE; bare: to standard output, alone"
    parser.add_argument("--json", nargs="?", const=STDOUT, metavar="FILE", help=text)


def check_json(target: str | None, *inputs: str | os.PathLike[str] | None) -> None:
    """Refuse a file that cannot be written or is one of `inputs`, before any work. Raises as `check_output`."""
    if target not in (None, STDOUT):
        check_output("--json", target, *(path for path in inputs if path is not None))


def write_json(target: str | None, facts: Mapping[str, object]) -> None:
    """Write `facts` where --json says, if it was given."""
    text = json.dumps(facts, indent=2)
    if target == STDOUT:
        print(text)
    elif target is not None:
        write_output(target, f"{text}\n".encode())
