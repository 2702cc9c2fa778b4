"""The option --key-mapping of commands that load a checkpoint."""

import argparse
from collections.abc import Sequence

from ecotta_rt.errors import UsageError

__all__ = ["add_key_mapping", "key_mapping"]


def add_key_mapping(parser: argparse.ArgumentParser) -> None:
    """Declare it."""
    parser.add_argument(
        "--key-mapping",
        action="append",
        default=[],
        metavar="OLD=NEW",
        help="keys of the checkpoint that begin with OLD begin with NEW in the network (model.=); without =NEW they "
        "are left out; may be given more than once (default: one prefix is taken off where all fits then)",
    )


def key_mapping(given: Sequence[str]) -> dict[str, str | None] | None:
    """What was given as prefixes and their replacements; None for nothing.

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
