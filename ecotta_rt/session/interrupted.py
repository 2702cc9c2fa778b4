"""A step that was given up since somebody asked for it."""

from ecotta_rt.errors import EcottaError

__all__ = ["Interrupted"]


class Interrupted(EcottaError):
    """A step that was given up half-way; the state is the one before."""
