"""From logits to what is said of the frames."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ecotta_rt.records import Prediction, Why

__all__ = ["predicted", "why_moved"]


def predicted(
    logits: NDArray[np.float32], class_names: Sequence[str], why: Why, kept: NDArray[np.bool_] | None = None
) -> Prediction:
    """What is said of frames.

    Args:
        logits: float32 `[N, C]`.
        class_names: By class.
        why: What became of the step.
        kept: bool `[N]`, whose entropy passed the gate; None: of none.
    """
    with np.errstate(invalid="ignore"):  # logits that are not finite give NaN, and `why` says it
        shifted = logits - logits.max(axis=1, keepdims=True)
        log_probabilities = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
        probabilities = np.exp(log_probabilities)
        entropy = -(probabilities * log_probabilities).sum(axis=1)
    labels = logits.argmax(axis=1)
    kept = np.zeros(len(logits), np.bool_) if kept is None else kept
    names = tuple(class_names[label] for label in labels)
    return Prediction(labels, probabilities, entropy, kept, why == "adapted", why, names)


def why_moved(moved: bool, kept: NDArray[np.bool_], finite: bool) -> Why:
    """Why a step moved the state, or did not."""
    if finite and moved:
        return "adapted"
    # With frames below the threshold only a gradient that is not finite keeps the step from moving.
    return "not-finite" if not finite or kept.any() else "uncertain"
