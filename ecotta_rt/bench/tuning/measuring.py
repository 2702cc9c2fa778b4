"""Errors of settings on the same frames, and how far apart they have to be to mean anything."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ecotta_rt.adapt.temperature import fitted_temperature
from ecotta_rt.bench.tuning.streams import RUN, Played
from ecotta_rt.bundle import Bundle
from ecotta_rt.bundle.rewriting import followed_otherwise
from ecotta_rt.options import AdaptationOptions
from ecotta_rt.runtime.engine import Runtime

__all__ = ["Answers", "Estimate", "difference", "mean_error", "play"]


@dataclass(frozen=True)
class Estimate:
    """A figure in points of a hundred, and its standard error."""

    points: float
    standard_error: float

    def __str__(self) -> str:
        return f"{self.points:.1f} ± {self.standard_error:.1f}"


@dataclass(frozen=True, eq=False)
class Answers:
    """What one way to follow the streams came to; it has both answers.

    Attributes:
        filtered: bool `[N]` for each stream: which filtered answers are wrong.
        unfiltered: The same of the network's own.
        seconds: Processor time that answering took.
        temperature: At which the network's own answers say best how sure it may be.
    """

    filtered: tuple[NDArray[np.bool_], ...]
    unfiltered: tuple[NDArray[np.bool_], ...]
    seconds: float
    temperature: float = 1.0

    def wrong(self, answer: str) -> tuple[NDArray[np.bool_], ...]:
        """Of one of both."""
        return self.filtered if answer == "filtered" else self.unfiltered

    @property
    def milliseconds_a_frame(self) -> float:
        """Mean processor time of an answer."""
        return 1000 * self.seconds / sum(map(len, self.filtered))


def play(
    bundle: Bundle,
    options: AdaptationOptions,
    streams: Sequence[Played],
    batch: int,
    step: Callable[[int], None],
) -> Answers:
    """Let the bundle follow each stream by these options, from its beginning.

    Args:
        bundle: It.
        options: Instead of its own.
        streams: What is shown; frames that fill no batch at the end are not.
        batch: Frames at once.
        step: Called with the frames of each batch that is done.

    Raises:
        InputFileError, UsageError, BudgetExceeded: As `Runtime`.
    """
    runtime = Runtime(followed_otherwise(bundle, vars(options)), batch=batch)
    wrong: dict[str, list[NDArray[np.bool_]]] = {"filtered": [], "unfiltered": []}
    seconds, said, labels = 0.0, list[NDArray[np.float32]](), list[NDArray[np.int64]]()
    for stream in streams:
        runtime.reset()
        answers: dict[str, list[NDArray[np.bool_]]] = {"filtered": [], "unfiltered": []}
        for start in range(0, len(stream.labels) - batch + 1, batch):
            began_s = time.process_time()
            prediction = runtime(stream.frames[start : start + batch])
            seconds += time.process_time() - began_s
            said.append(prediction.unfiltered)
            labels.append(stream.labels[start : start + batch])
            for name, found in answers.items():
                found.append(getattr(prediction, name).argmax(axis=1) != labels[-1])
            step(batch)
        for name, found in answers.items():
            wrong[name].append(np.concatenate(found))
    temperature = fitted_temperature(np.concatenate(said), np.concatenate(labels))
    return Answers(tuple(wrong["filtered"]), tuple(wrong["unfiltered"]), seconds, temperature)


def mean_error(wrong: Sequence[NDArray[np.bool_]]) -> Estimate:
    """The error in percent, each stream counting the same.

    Args:
        wrong: bool `[N]` for each stream.
    """
    return _mean([found.astype(np.float64) for found in wrong])


def difference(wrong: Sequence[NDArray[np.bool_]], other: Sequence[NDArray[np.bool_]]) -> Estimate:
    """How many points less `other` is wrong, frame by frame.

    Args:
        wrong: bool `[N]` for each stream.
        other: The same frames, followed otherwise.
    """
    pairs = zip(wrong, other, strict=True)
    return _mean([one.astype(np.float64) - two.astype(np.float64) for one, two in pairs])


def _mean(values: Sequence[NDArray[np.float64]]) -> Estimate:
    """Errors of neighbours go together: the standard error is that of means over blocks of a run's length."""
    spreads = []
    for stream in values:
        blocks = [block.mean() for block in np.array_split(stream, max(2, len(stream) // RUN))]
        spreads.append(np.var(blocks, ddof=1) / len(blocks))
    mean = np.mean([stream.mean() for stream in values])
    return Estimate(100 * float(mean), 100 * float(np.sqrt(np.sum(spreads))) / len(values))
