"""The argument parser of every command, and the types of its values."""

import argparse
from argparse import ArgumentTypeError
from collections.abc import Callable, Sequence
from typing import NoReturn

from ecotta_rt.errors import UsageError
from ecotta_rt.messages import draw, tell

__all__ = [
    "MOST_FRAMES",
    "CommandParser",
    "add_key_mapping",
    "batch_size",
    "integer",
    "integer_up_to",
    "key_mapping",
    "thread_count",
]

MOST_FRAMES = 2**62
"""More than any stream has, and what counters of 64 bits can still hold."""

_MOST = 2**31 - 1  # what libraries take for threads, batches, seeds


class CommandParser(argparse.ArgumentParser):
    """Takes no abbreviated options, keeps the line breaks of its texts, and complains where all messages go."""

    def __init__(
        self, program: str, *, description: str | None, epilog: str | None = None, usage: str | None = None
    ) -> None:
        super().__init__(
            program,
            usage=usage,
            description=description,
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    def error(self, message: str) -> NoReturn:
        """Say how it is used and what was wrong, and end with the exit code of a usage error."""
        draw(self.format_usage())
        tell(self.prog, f"error: {message}")
        raise SystemExit(UsageError.exit_code)


def integer_up_to(most: int) -> Callable[[str], int]:
    """An argument type that refuses what is larger than `most`, or smaller than -`most`."""

    def convert(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            raise ArgumentTypeError(f"{text[:40]!r} is no whole number") from None
        if abs(number) > most:
            raise ArgumentTypeError(f"{text[:40]} is out of range: give a number up to {most}")
        return number

    return convert


integer = integer_up_to(_MOST)

batch_size = integer_up_to(65_536)
"""Frames that are in memory together."""

thread_count = integer_up_to(1024)
"""More than any machine has cores for, and still few enough to start."""


def add_key_mapping(parser: argparse.ArgumentParser) -> None:
    """Declare the option --key-mapping of commands that load a checkpoint."""
    parser.add_argument(
        "--key-mapping",
        action="append",
        default=[],
        metavar="OLD=NEW",
        help="keys of the checkpoint that begin with OLD begin with NEW in the network (model.=); without =NEW they "
        "are left out; may be given more than once (default: one prefix is taken off where all fits then)",
    )


def key_mapping(given: Sequence[str]) -> dict[str, str | None] | None:
    """The prefixes given and their replacements; None for nothing.

    Raises:
        UsageError: An empty OLD, or one twice.
    """
    mapping: dict[str, str | None] = {}
    for text in given:
        old, equals, new = text.partition("=")
        if not old or old in mapping:
            raise UsageError(f"--key-mapping {text!r}: expected OLD=NEW, each OLD once, for example model.=")
        mapping[old] = new if equals else None
    return mapping or None
