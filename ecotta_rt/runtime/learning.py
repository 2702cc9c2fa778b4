"""Whether a batch is learned from, merely answered, or answered with everything held."""

from collections.abc import Mapping, Sequence
from typing import Literal

from ecotta_rt.options import Learning
from ecotta_rt.records import Frame, Level

__all__ = ["Act", "LearningPolicy", "learning_pays"]

Act = Literal["learn", "answer", "hold"]
"""What to do with a batch: learn from it; answer it while the statistics follow; answer it and hold them, too."""


def learning_pays(learning: Learning, metadata: Mapping[str, str]) -> bool:
    """Whether a bundle is to learn by gradients; what it is to do with a batch is `LearningPolicy`'s.

    `auto` learns where no group was warmed up. After a warm-up learning gained 0.2 points of 25 on ResNet-56, and true
    labels no more than 0.6 on WRN-40-2: less than the two more forward passes that it costs are worth. Without one, it
    gained more than a point in 30 batches. No sign in the stream is asked: agreement with frozen answers, entropy and
    spread of the answers went with the gain in one short stream and against it, or not with it, in another.

    Args:
        learning: What the recipe says; `ecotta tune` writes `on` or `off` there when it has measured.
        metadata: Of the bundle; `warm_up` says how its groups came about.
    """
    return learning == "on" or (learning == "auto" and metadata.get("warm_up", "").startswith("none"))


class LearningPolicy:
    """Chooses for one batch after the other.

    Args:
        every: Learn from each n-th whole batch; 0: never.
        sparse_every: On `Level.SPARSE` from each n-th of those.
        size: Frames of a whole batch.
    """

    def __init__(self, every: int, sparse_every: int, size: int) -> None:
        self._every = every
        self._sparse_every = sparse_every
        self._size = size
        self._whole_batches = 0

    def choose(self, batch: Sequence[Frame], level: Level, *, again: bool = False) -> Act:
        """What to do with a batch.

        Args:
            batch: Its frames.
            level: The guard's level.
            again: Whether learning from it was given up before.
        """
        if any(frame.damaged for frame in batch):
            return "hold"
        answer: Act = "hold" if level >= Level.INFERENCE else "answer"
        if len(batch) < self._size:
            return answer  # it is repeated to fill the batch, and learning would count the same frames twice
        self._whole_batches += not again
        every = self._every * (self._sparse_every if level == Level.SPARSE else 1)
        due = every > 0 and self._whole_batches % every == 0
        return "learn" if due and level.learns and not again else answer
