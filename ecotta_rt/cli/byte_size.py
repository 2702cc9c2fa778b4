"""Sizes as people write them: `200MiB`, `1.5 GB`, `4096`."""

import re
from decimal import Decimal

from ecotta_rt.errors import UsageError

__all__ = ["parse_byte_size"]

_UNITS = {"": 1, "b": 1, "kib": 2**10, "mib": 2**20, "gib": 2**30, "kb": 10**3, "mb": 10**6, "gb": 10**9}
_SIZE = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([a-zA-Z]*)\s*", re.ASCII)
_LONGEST = 32


def parse_byte_size(text: str) -> int:
    """Whole bytes of a size.

    Args:
        text: A number above 0, and a unit: KiB, MiB, GiB (powers of 1024), KB, MB, GB (of 1000), or none for bytes.
            Case does not matter.

    Raises:
        UsageError: No number, an unknown unit, or less than a byte.

    >>> parse_byte_size("1.5MiB")
    1572864
    """
    match = _SIZE.fullmatch(text) if len(text) <= _LONGEST else None
    if match is None or match[2].lower() not in _UNITS:
        raise UsageError(f"{text[:_LONGEST]!r} is not a size; write for example 200MiB, 1.5GiB, 512MB or 4096 (bytes)")
    size_bytes = int(Decimal(match[1]) * _UNITS[match[2].lower()])
    if size_bytes < 1:
        raise UsageError(f"{text!r} is less than one byte")
    return size_bytes
