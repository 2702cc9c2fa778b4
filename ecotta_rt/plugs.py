"""Which plug a word of the user's is for: our own stand in a table, others' come in through entry points.

A package that brings a source or a sink declares it in its `setup.cfg`:

    [options.entry_points]
    ecotta_rt.sources =
        mjpeg = their_package.mjpeg:PLUG
"""

from collections.abc import Iterable
from typing import Protocol, TypeVar

from ecotta_rt.errors import Unavailable

__all__ = ["Plug", "plug_for"]


class Plug(Protocol):
    """Opens what users name in one way of writing."""

    def recognises(self, text: str) -> bool:
        """Whether what the user wrote is for this plug; opens nothing."""


P = TypeVar("P", bound=Plug)


def plug_for(text: str, own: Iterable[P], kind: type[P], group: str) -> P | None:
    """The first plug that recognises `text`; others' are loaded only where none of our own does.

    Args:
        text: What the user wrote.
        own: Our table.
        kind: What an entry point has to be.
        group: The group of entry points.

    Raises:
        Unavailable: Somebody's plug cannot be loaded, or is none.
    """
    return next((plug for plug in own if plug.recognises(text)), None) or _of_others(text, kind, group)


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
