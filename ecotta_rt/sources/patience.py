"""How long a camera that is away is waited for."""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain, repeat

__all__ = ["GIVES_UP", "RETRY_S", "Patience", "unending"]

RETRY_S = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0)
"""Waits before connecting again, in seconds; `ecotta run` gives a camera up when all are used up without a frame."""

_UNENDING_S = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0)
_HANG_S = 20.0
_SETTLED_S = 10.0


@dataclass(frozen=True)
class Patience:
    """How long a camera that is away is waited for, and how often that is told.

    Attributes:
        waits_s: Waits before the next attempts to connect, in seconds.
        unending: The last wait is repeated for ever, and a loss is told once; else each attempt is told, and after the
            last one the camera is given up.
        from_start: A camera that is not there at first is waited for, too; else that is an error at once.
        random: Draws from [0, 1): a wait is that share of what `waits_s` says, so that many who lost one camera do not
            come back in step ("full jitter": Brooker, Exponential Backoff And Jitter, 2015). None: all of it.
        settled_s: The waits begin anew when a connection has shown frames for so long; one that breaks again and again
            is left in peace.
        hang_s: A read that takes longer is left behind, where a source cannot time out by itself; None: never.
    """

    waits_s: tuple[float, ...] = RETRY_S
    unending: bool = False
    from_start: bool = False
    random: Callable[[], float] | None = None
    settled_s: float = 0.0
    hang_s: float | None = None

    def waits(self) -> Iterator[float]:
        """The waits after a loss."""
        longest_s = chain(self.waits_s, repeat(self.waits_s[-1])) if self.unending else self.waits_s
        return (wait_s * (1.0 if self.random is None else self.random()) for wait_s in longest_s)

    def waits_at_start(self) -> Iterator[float]:
        """The waits before the first frame."""
        return self.waits() if self.from_start else iter(())


GIVES_UP = Patience()
"""As in `ecotta run`: somebody sits before it, and a wrong name is likely."""


def unending(*, wait: bool = True, draw: Callable[[], float] = random.random) -> Patience:
    """As in `ecotta serve`: nobody is there to start it again.

    Args:
        wait: Whether a camera that is not there at first is waited for.
        draw: See `Patience.random`.
    """
    return Patience(_UNENDING_S, True, wait, draw, settled_s=_SETTLED_S, hang_s=_HANG_S)
