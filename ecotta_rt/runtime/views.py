"""A second view of each frame: its mirror image, where mirroring keeps the class."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecotta_rt.runtime.predicting import probabilities_of

__all__ = ["averaged", "mirrored"]

Floats = NDArray[np.float32]


def mirrored(frames: NDArray[Any]) -> NDArray[Any]:
    """The frames with left and right exchanged; a view.

    Args:
        frames: uint8 `[N, H, W, C]` or `[N, H, W]`, or float32 `[N, C, H, W]`.
    """
    return frames[:, :, ::-1] if frames.dtype == np.uint8 else frames[..., ::-1]


def averaged(logits: Floats, others: Floats) -> Floats:
    """Logits whose probabilities are the mean of those of two views.

    Args:
        logits: float32 `[N, C]`.
        others: Of the other view.
    """
    mean = (probabilities_of(logits)[0] + probabilities_of(others)[0]) / 2
    with np.errstate(divide="ignore"):
        logs: Floats = np.log(mean)
    return np.maximum(logs, np.float32(np.log(np.finfo(np.float32).tiny)))
