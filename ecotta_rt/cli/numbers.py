"""Whole numbers on a command line, small enough for all that they are handed to."""

from argparse import ArgumentTypeError
from collections.abc import Callable

__all__ = ["MOST_FRAMES", "batch_size", "integer", "integer_up_to", "thread_count"]

MOST_FRAMES = 2**62
"""More than any stream has, and what counters of 64 bits can still hold."""

_MOST = 2**31 - 1  # what libraries take for threads, batches, seeds


def integer_up_to(most: int) -> Callable[[str], int]:
    """A converter for argparse that refuses what is larger than `most`, or smaller than -`most`."""

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
"""A converter for argparse."""

batch_size = integer_up_to(65_536)
"""As `integer`, for frames that are in memory together."""

thread_count = integer_up_to(1024)
"""As `integer`, for threads that are started without a question; more than any machine has cores for."""
