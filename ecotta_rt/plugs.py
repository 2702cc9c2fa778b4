"""Which plug a word of the user's is for: our own stand in a table, others' come in through entry points.

A package that brings a source or a sink declares it in its `setup.cfg`:

    [options.entry_points]
    ecotta_rt.sources =
        mjpeg = their_package.mjpeg:PLUG
"""

import re
from collections.abc import Iterable
from typing import Protocol, TypeVar

from ecotta_rt.errors import Unavailable

__all__ = ["Plug", "plug_for"]

_SCHEME = re.compile(r"[a-z][a-z0-9+.-]+:", re.ASCII | re.IGNORECASE)


class Plug(Protocol):
    """Opens what users name in one way of writing."""

    def recognises(self, text: str) -> bool:
        """Whether what the user wrote is for this plug; opens nothing."""


P = TypeVar("P", bound=Plug)


def plug_for(text: str, own: Iterable[P], kind: type[P], group: str) -> P | None:
    """The first plug that recognises `text`.

    Others' are loaded only where none of our own recognises it, and only for a text like `NAME:...` or `NAME://...`: a
    broken plug of somebody's must not stand between a user and a mistyped path.

    Args:
        text: What the user wrote.
        own: Our table.
        kind: What an entry point has to be.
        group: The group of entry points.

    Raises:
        Unavailable: Somebody's plug cannot be loaded, or is none.
    """
    known = next((plug for plug in own if plug.recognises(text)), None)
    return known or (_of_others(text, kind, group) if _SCHEME.match(text) else None)


def _of_others(text: str, kind: type[P], group: str) -> P | None:
    from importlib.metadata import entry_points

    for entry in entry_points(group=group):
        try:
            plug = entry.load()
            if not isinstance(plug, kind):
                raise TypeError(f"it is a {type(plug).__name__}, expected a {kind.__name__}")
            if plug.recognises(text):
                return plug
        except Exception as error:
            package = entry.dist.name if entry.dist else "that brings it"
            raise Unavailable(
                f"the plug {entry.name!r} of {group} ({entry.value}) cannot be used: {error}; repair or remove the "
                f"package {package}"
            ) from error
    return None
