"""Sizes as people write them: 200MiB."""

import re

from ecotta_rt.errors import UsageError

__all__ = ["byte_size", "size_fault"]

_UNITS = {"": 1, "b": 1, "kib": 2**10, "mib": 2**20, "gib": 2**30, "kb": 10**3, "mb": 10**6, "gb": 10**9}
_SIZE = re.compile(r"\s*([0-9]+)(?:\.([0-9]+))?\s*([a-zA-Z]*)\s*", re.ASCII)
_LONGEST_SIZE = 32  # characters


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
    if match is None or match[3].lower() not in _UNITS:
        shown = text[:_LONGEST_SIZE]
        raise UsageError(f"{shown!r} is not a size; write for example 200MiB, 1.5GiB, 512MB or 4096 (bytes)")
    unit, fraction = _UNITS[match[3].lower()], match[2] or "0"
    # In whole numbers: floats lose bytes, and the module for decimal ones takes memory of a daemon for nothing else.
    size_bytes: int = int(match[1]) * unit + int(fraction) * unit // 10 ** len(fraction)
    if size_bytes < 1:
        raise UsageError(f"{text!r} is less than one byte")
    return size_bytes


def size_fault(text: str) -> str | None:
    """What is wrong with a size, for a check of a field; None: nothing."""
    try:
        byte_size(text)
    except UsageError as error:
        return str(error)
    return None
