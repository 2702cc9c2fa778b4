"""NOTE's memory: a sample of the stream that is balanced by predicted class and uniform in time.

Source: Gong et al. 2022, NOTE: Robust Continual Test-time Adaptation Against Temporal Correlation, NeurIPS, arXiv
2208.05117, section 3.2, algorithm 1: prediction-balanced reservoir sampling (PBRS).
"""

import torch
from torch import Tensor

__all__ = ["BalancedReservoir"]


class BalancedReservoir:
    """Frames by predicted class.

    Args:
        capacity: Most frames (N).
        classes: Number of classes.
        generator: Of the random choices, on the CPU.
    """

    def __init__(self, capacity: int, classes: int, generator: torch.Generator) -> None:
        self._capacity = capacity
        self._generator = generator
        self._kept: list[list[Tensor]] = [[] for _ in range(classes)]
        self._seen = [0] * classes

    def __len__(self) -> int:
        return sum(map(len, self._kept))

    def add(self, frame: Tensor, label: int) -> None:
        """Take a frame in, or not.

        Args:
            frame: float32 `[C, H, W]`, copied.
            label: The predicted class.
        """
        self._seen[label] += 1
        if len(self) < self._capacity or self._make_room(label):
            self._kept[label].append(frame.clone())

    def frames(self) -> Tensor:
        """float32 `[M, C, H, W]`, by class."""
        return torch.stack([frame for held in self._kept for frame in held])

    def counts(self) -> list[int]:
        """Frames of each predicted class."""
        return [len(held) for held in self._kept]

    def _make_room(self, label: int) -> bool:
        """A class that is not the largest takes a place of the largest; the largest keeps a reservoir of its own."""
        counts = self.counts()
        largest = [one for one, count in enumerate(counts) if count == max(counts)]
        if label in largest:
            if float(torch.rand((), generator=self._generator)) > counts[label] / self._seen[label]:
                return False
            loser = label
        else:
            loser = largest[self._below(len(largest))]
        self._kept[loser].pop(self._below(counts[loser]))
        return True

    def _below(self, end: int) -> int:
        return int(torch.randint(end, (), generator=self._generator))
