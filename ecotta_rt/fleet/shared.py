"""What of a state a board gives away."""

from dataclasses import replace

from ecotta_rt.state import AdaptState

__all__ = ["shared"]


def shared(state: AdaptState) -> AdaptState:
    """A state without what a run remembers of its stream: its filter and its memory of places concern nobody else.

    Merging reads none of that, so a merge of such states is that of the whole ones.
    """
    return replace(state, adaptation={})
