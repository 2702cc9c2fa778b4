"""What a network said of a batch, frame by frame."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from ecotta_rt.events import Answer
from ecotta_rt.records import Frame, Prediction

__all__ = ["answers_to"]


def answers_to(
    batch: Sequence[Frame],
    prediction: Prediction,
    class_names: Sequence[str],
    now_s: float,
    dropped: int,
    top: int = 0,
) -> Iterator[Answer]:
    """One answer a frame.

    Args:
        batch: The frames; where they are fewer than the prediction has, they are its first.
        prediction: What was said of them.
        class_names: By class; a class without a name is called by its number.
        now_s: When it was said, by the clock that dates the frames.
        dropped: Frames dropped so far.
        top: How many of the most probable classes to name in `Answer.top`; 0: that stays None.
    """

    def name_of(index: int) -> str:
        return class_names[index] if index < len(class_names) else str(index)

    unfiltered, filtered = prediction.unfiltered.argmax(axis=1), prediction.filtered.argmax(axis=1)
    for position, frame in enumerate(batch):
        class_index = int(prediction.labels[position])
        yield Answer(
            frame=frame.index,
            name=frame.name,
            label=name_of(class_index),
            class_index=class_index,
            probability=float(prediction.probabilities[position, class_index]),
            entropy_nats=float(prediction.entropy_nats[position]),
            adapted=prediction.adapted,
            why=prediction.why,
            latency_ms=round(1000 * (now_s - frame.time_s), 3),
            dropped=dropped,
            truth=None if frame.label is None else name_of(frame.label),
            correct=None if frame.label is None else frame.label == class_index,
            unfiltered_label=name_of(int(unfiltered[position])),
            unfiltered_probability=float(prediction.unfiltered[position, unfiltered[position]]),
            filtered_label=name_of(int(filtered[position])),
            filtered_probability=float(prediction.filtered[position, filtered[position]]),
            top=_most_probable(prediction.probabilities[position], top, name_of) if top else None,
        )


def _most_probable(
    probabilities: NDArray[np.float32], count: int, name_of: Callable[[int], str]
) -> tuple[tuple[str, float], ...]:
    """Names and probabilities, the most probable first; of equal ones the class of the lower number."""
    first = np.argsort(-probabilities, kind="stable")[:count]
    return tuple((name_of(int(index)), float(probabilities[index])) for index in first)
