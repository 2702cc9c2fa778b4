"""The argument parser of every command, and the types of its values."""

import argparse
import re
from argparse import ArgumentTypeError
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import NoReturn

from ecotta_rt.errors import UsageError
from ecotta_rt.messages import draw, tell

__all__ = [
    "MOST_FRAMES",
    "CommandParser",
    "add_key_mapping",
    "batch_size",
    "byte_size",
    "integer",
    "integer_up_to",
    "key_mapping",
    "thread_count",
]

MOST_FRAMES = 2**62
"""More than any stream has, and what counters of 64 bits can still hold."""

_MOST = 2**31 - 1  # what libraries take for threads, batches, seeds
_UNITS = {"": 1, "b": 1, "kib": 2**10, "mib": 2**20, "gib": 2**30, "kb": 10**3, "mb": 10**6, "gb": 10**9}
_SIZE = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([a-zA-Z]*)\s*", re.ASCII)
_LONGEST_SIZE = 32  # characters


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


def byte_size(text: str | None) -> int | None:
    """Whole bytes of a size: a number above 0, and KiB, MiB, GiB (powers of 1024), KB, MB, GB (of 1000) or none or B.

    Not a type for argparse, which would print how the command is used beside the mistake. None stays None.

    Raises:
        UsageError: No size, or less than a byte.

    >>> byte_size("1.5MiB")
    1572864
    """
    if text is None:
        return None
    match = _SIZE.fullmatch(text) if len(text) <= _LONGEST_SIZE else None
    if match is None or match[2].lower() not in _UNITS:
        shown = text[:_LONGEST_SIZE]
        raise UsageError(f"{shown!r} is not a size; write for example 200MiB, 1.5GiB, 512MB or 4096 (bytes)")
    size_bytes = int(Decimal(match[1]) * _UNITS[match[2].lower()])
    if size_bytes < 1:
        raise UsageError(f"{text!r} is less than one byte")
    return size_bytes


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
