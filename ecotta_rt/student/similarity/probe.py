"""What a source network says of the target's labelled pictures."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ecotta_rt.errors import UsageError

__all__ = ["LEAST_PICTURES", "Probe"]

LEAST_PICTURES = 8
"""Of fewer pictures every measure is noise: eight have 28 pairs."""

_OFF_ONE = 1e-3


@dataclass(frozen=True, eq=False)
class Probe:
    """Features and answers of one source on labelled pictures of the target.

    Attributes:
        features: float64 `[N, D]`: what the source's classifier reads.
        answers: float64 `[N, source classes]`: its softmax.
        labels: int64 `[N]`, of the target.

    Raises:
        UsageError: Fewer than `LEAST_PICTURES`, one class alone, no class with two pictures, counts that differ,
            features that are not finite, or answers that are no probabilities.
    """

    features: NDArray[np.float64]
    answers: NDArray[np.float64]
    labels: NDArray[np.int64]

    def __post_init__(self) -> None:
        count = len(self.labels)
        if self.labels.ndim != 1 or self.features.ndim != 2 or self.answers.ndim != 2:
            raise UsageError(
                f"features {list(self.features.shape)}, answers {list(self.answers.shape)}, labels "
                f"{list(self.labels.shape)}: expected [N, D], [N, classes] and [N]"
            )
        if not count == len(self.features) == len(self.answers):
            raise UsageError(f"{count} labels for {len(self.features)} features and {len(self.answers)} answers")
        if count < LEAST_PICTURES:
            raise UsageError(f"{count} labelled pictures: too few to measure similarity by; at least {LEAST_PICTURES}")
        counts = np.unique(self.labels, return_counts=True)[1]
        if len(counts) < 2:
            raise UsageError("all labelled pictures are of one class: similarity is undefined; give at least 2 classes")
        if counts.max() < 2:
            raise UsageError(f"{count} pictures of {count} classes: similarity needs a class with 2 pictures or more")
        if not np.isfinite(self.features).all():
            raise UsageError(
                "the source's features hold NaN or infinite values: its weights are damaged, or frames "
                "of this kind overflow it"
            )
        sums = self.answers.sum(1)
        if not (np.isfinite(self.answers).all() and (self.answers >= 0).all() and np.abs(sums - 1).max() < _OFF_ONE):
            raise UsageError("the source's answers are no probabilities: each row must be finite, >= 0 and sum to 1")

    def one_hot(self) -> NDArray[np.float64]:
        """The labels, float64 `[N, classes that occur]`."""
        columns: NDArray[np.float64] = (self.labels[:, None] == np.unique(self.labels)).astype(np.float64)
        return columns
