"""From logits to what is said of the frames."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ecotta_rt.options import AnswerKind
from ecotta_rt.records import Prediction, Why

__all__ = ["predicted", "probabilities_of", "why_moved"]

Floats = NDArray[np.float32]


def probabilities_of(logits: Floats) -> tuple[Floats, Floats]:
    """What the network itself says of frames.

    Args:
        logits: float32 `[N, C]`. Where they are not finite, so is what they come to.

    Returns:
        probabilities `[N, C]` and their entropy `[N]` in nats.
    """
    with np.errstate(invalid="ignore"):  # logits that are not finite give NaN, and `why` says it
        shifted = logits - logits.max(axis=1, keepdims=True)
        log_probabilities = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
        probabilities = np.exp(log_probabilities)
        entropy = -(probabilities * log_probabilities).sum(axis=1)
    return probabilities, entropy


def predicted(
    logits: Floats,
    class_names: Sequence[str],
    why: Why,
    kept: NDArray[np.bool_] | None = None,
    *,
    filtered: Floats | None = None,
    answer: AnswerKind = "unfiltered",
) -> Prediction:
    """What is said of frames.

    Args:
        logits: float32 `[N, C]`.
        class_names: By class.
        why: What became of the step.
        kept: bool `[N]`, whose entropy passed the gate; None: of none.
        filtered: float32 `[N, C]`, the probabilities after the filter; None: nothing is filtered.
        answer: Which of the two is meant where one is.
    """
    probabilities, entropy = probabilities_of(logits)
    filtered = probabilities if filtered is None else filtered
    said = filtered if answer == "filtered" else probabilities
    # The largest logit, since two probabilities may round to the same number.
    labels = filtered.argmax(axis=1) if answer == "filtered" else logits.argmax(axis=1)
    kept = np.zeros(len(logits), np.bool_) if kept is None else kept
    names = tuple(class_names[label] for label in labels)
    return Prediction(labels, said, entropy, kept, why == "adapted", why, probabilities, filtered, names)


def why_moved(moved: bool, kept: NDArray[np.bool_], finite: bool) -> Why:
    """Why a step moved the state, or did not."""
    if finite and moved:
        return "adapted"
    # With frames below the threshold only a gradient that is not finite keeps the step from moving.
    return "not-finite" if not finite or kept.any() else "uncertain"
