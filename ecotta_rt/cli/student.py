"""A network that fits the device, made of larger ones that do not.

rank     rank networks that were trained for other tasks by how much they know of yours, and weigh them as teachers
distil   teach a small network by a large one (or one a domain), over labelled source pictures and unlabelled ones of
         the places where devices will hang; both adapt to those places meanwhile
slim     train one network that runs at any width, over the same pictures: a bank
pick     take the widest network out of a bank that fits a device, and make its bundle

Each is a command of its own with its own help. What comes out is a network file that `ecotta prepare` takes.

examples:
  ecotta student rank networks/ --data few-labelled-pictures/
  ecotta student distil --help
"""

import argparse

from ecotta_rt.errors import UsageError

__all__ = ["NAME", "SUBCOMMANDS", "add_arguments", "run"]

NAME = "student"

SUBCOMMANDS: dict[str, str] = {
    "rank": "rank networks that were trained for other tasks by how much they know of yours",
    "distil": "teach a small network by large ones, over labelled source and unlabelled target pictures",
    "slim": "train one network that runs at any width: a bank",
    "pick": "take the widest network out of a bank that fits a device, and make its bundle",
}
"""Name -> its line in lists. The module is `ecotta_rt.cli.student_NAME`."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the argument: which of the commands, whose own options follow it."""
    parser.add_argument("action", choices=tuple(SUBCOMMANDS), help="which command, see above; its options follow it")


def run(args: argparse.Namespace) -> int:
    """Refuse: `ecotta_rt.cli.main` runs what the first word names, so something else came first."""
    raise UsageError(f"name the command first: ecotta student {args.action} ...")
