"""RoTTA's memory bank: a few frames of every class, the old and the uncertain ones leaving first.

Source: Yuan et al. 2023, Robust Test-Time Adaptation in Dynamic Scenarios, CVPR, arXiv 2303.13899, section 3.3:
category-balanced sampling with timeliness and uncertainty (CSTU), algorithm 1. What the paper leaves open is as in the
authors' implementation (github.com/BIT-DA/RoTTA): ages are counted in frames and grow after each, and a class holds
frames while it has fewer than capacity / classes.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["CategoryBalancedMemory"]


@dataclass(eq=False)
class _Kept:
    frame: Tensor
    entropy_nats: float
    age: int = 0


class CategoryBalancedMemory:
    """Frames by predicted class.

    Args:
        capacity: Most frames (N).
        classes: Number of classes (C).
        timeliness_weight: lambda_t.
        uncertainty_weight: lambda_u.
    """

    def __init__(self, capacity: int, classes: int, timeliness_weight: float = 1.0, uncertainty_weight: float = 1.0):
        self._capacity = capacity
        self._classes = classes
        self._timeliness_weight = timeliness_weight
        self._uncertainty_weight = uncertainty_weight
        self._kept: list[list[_Kept]] = [[] for _ in range(classes)]

    def __len__(self) -> int:
        return sum(map(len, self._kept))

    def add(self, frame: Tensor, label: int, entropy_nats: float) -> None:
        """Take a frame in if there is room or a worse one to make it, then let all grow older.

        Args:
            frame: float32 `[C, H, W]`, copied.
            label: The predicted class.
            entropy_nats: Of the prediction.
        """
        new = _Kept(frame.clone(), entropy_nats)
        if self._make_room(label, self._score(new)):
            self._kept[label].append(new)
        for kept in self._all():
            kept.age += 1

    def frames(self) -> Tensor:
        """float32 `[M, C, H, W]`, by class."""
        return torch.stack([kept.frame for kept in self._all()])

    def ages(self) -> Tensor:
        """float32 `[M]`, in the order of `frames`: frames since each came in, as a share of the capacity."""
        return torch.tensor([kept.age / self._capacity for kept in self._all()])

    def labels(self) -> list[int]:
        """Predicted classes, in the order of `frames`."""
        return [label for label, held in enumerate(self._kept) for _ in held]

    def _all(self) -> list[_Kept]:
        return [kept for held in self._kept for kept in held]

    def _score(self, kept: _Kept) -> float:
        """Heuristic score H, equation 6: the higher, the sooner it leaves."""
        timeliness = 1 / (1 + math.exp(-kept.age / self._capacity))
        return self._timeliness_weight * timeliness + self._uncertainty_weight * kept.entropy_nats / math.log(
            self._classes
        )

    def _make_room(self, label: int, score: float) -> bool:
        """Whether a frame of that class and score may come in, once one has left for it where needed."""
        if len(self._kept[label]) >= self._capacity / self._classes:
            return self._let_one_go([label], score)
        if len(self) < self._capacity:
            return True
        largest = max(map(len, self._kept))
        return self._let_one_go([one for one, held in enumerate(self._kept) if len(held) == largest], score)

    def _let_one_go(self, labels: list[int], score: float) -> bool:
        """Remove the frame of these classes with the highest score, unless the newcomer's is as high."""
        worst = max(((label, kept) for label in labels for kept in self._kept[label]), key=lambda p: self._score(p[1]))
        if self._score(worst[1]) <= score:
            return False
        self._kept[worst[0]].remove(worst[1])
        return True
