"""The version of a configuration: older files are brought up to date as they are read, newer ones refused."""

from collections.abc import Callable
from typing import Any

from ecotta_rt.files.fields import Document

__all__ = ["MIGRATIONS", "VERSION", "take_version"]

VERSION = 1
"""What this package reads and writes."""

MIGRATIONS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {}
"""By version: makes the fields of the next version of those of this one. Each version below `VERSION` has one."""

_NAME = "config_version"


def take_version(document: Document) -> int:
    """Take the version out of a configuration and bring the rest up to `VERSION`.

    Returns:
        The version that it had.

    Raises:
        ConfigurationError: There is none, or none that this package knows.
    """
    if _NAME not in document.values:
        raise document.error((_NAME,), f"missing; write {_NAME} = {VERSION} above the first table")
    found: int = document.take(_NAME, int)
    if found > VERSION:
        advice = "update ecotta_rt, or write the file for this version: ecotta config init"
        raise document.error((_NAME,), f"{found} is newer than {VERSION}, the newest this ecotta_rt reads; {advice}")
    if found < min(MIGRATIONS, default=VERSION):
        raise document.error((_NAME,), f"there is no version {found}; this ecotta_rt reads version {VERSION}")
    for version in range(found, VERSION):
        document.values = MIGRATIONS[version](document.values)
    return found
