"""Random numbers for a batch, drawn for each frame or for several neighbours together."""

from collections.abc import Iterator

import torch
from torch import Tensor

__all__ = ["Draws", "by_choice"]


class Draws:
    """Draws one value a frame; neighbours may share theirs, so that they look like one place.

    Args:
        count: Frames N in the batch.
        generator: All randomness comes from it.
        different: How many draws the batch has; None: one a frame.
    """

    def __init__(self, count: int, generator: torch.Generator, different: int | None = None) -> None:
        self.count, self.generator = count, generator
        self._different = min(count, different or count)
        self._share = torch.arange(count) * self._different // count

    def uniform(self, low: float = 0.0, high: float = 1.0, shape: tuple[int, ...] = ()) -> Tensor:
        """Float32 `[N, *shape]` in [low, high)."""
        return torch.empty(self._different, *shape).uniform_(low, high, generator=self.generator)[self._share]

    def normal(self, shape: tuple[int, ...]) -> Tensor:
        """Standard normal float32 `[N, *shape]`."""
        return torch.empty(self._different, *shape).normal_(generator=self.generator)[self._share]

    def exponential(self, shape: tuple[int, ...] = ()) -> Tensor:
        """Exponential float32 `[N, *shape]` of mean 1."""
        return torch.empty(self._different, *shape).exponential_(generator=self.generator)[self._share]

    def below(self, high: int) -> Tensor:
        """Integers int64 `[N]` from 0 to `high` - 1."""
        return torch.randint(0, high, (self._different,), generator=self.generator)[self._share]

    def chosen(self, share: float) -> Tensor:
        """Bool `[N]`, each true with probability `share`."""
        return self.uniform() < share

    def order(self) -> Tensor:
        """A random order of the frames, int64 `[N]`: no two frames share a place in it."""
        return torch.randperm(self.count, generator=self.generator)


def by_choice(choice: Tensor, count: int) -> Iterator[tuple[int, Tensor]]:
    """For each value below `count` that is among `choice`, int64 `[N]`: the value, and where it stands."""
    for value in range(count):
        places = torch.nonzero(choice == value).flatten()
        if len(places):
            yield value, places
