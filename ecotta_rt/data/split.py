"""Hold a share of a labelled set out, the same share of every class."""

import numpy as np
from numpy.typing import NDArray

from ecotta_rt.errors import UsageError

__all__ = ["hold_out"]


def hold_out(labels: NDArray[np.int64], share: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Choose at random, class by class.

    Args:
        labels: int64 `[N]`.
        share: In [0, 1): of each class, to the nearest whole number; one stays to learn from in any case.
        seed: Of the choice.

    Returns:
        Places to learn from and places held out, int64, each rising. Of few pictures none may be held out.

    Raises:
        UsageError: `share` is out of range.
    """
    if not 0 <= share < 1:
        raise UsageError(f"--held-out {share}: a share of the pictures, from 0 to less than 1; 0.1 is every tenth")
    generator = np.random.default_rng(seed)
    held = np.zeros(len(labels), np.bool_)
    for label in np.unique(labels):
        places = generator.permutation(np.flatnonzero(labels == label))
        held[places[: min(round(share * len(places)), len(places) - 1)]] = True
    return np.flatnonzero(~held), np.flatnonzero(held)
