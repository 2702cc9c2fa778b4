"""Signs of whether the answers to one stream are still right. Nobody has labels there, so they come from the answers.

    signs = StreamSigns(SignsRecipe(classes, gate=0.4, temperature=2.0))
    signs.take(prediction.unfiltered, prediction.filtered)     # after each batch
    signs.compare(prediction.filtered[0], frozen[0])           # of some frames
    signs.told(frame, statistics)                              # the event, every so often

With p the network's probabilities of a frame and H their entropy in units of ln C, over the frames so far:

    entropy          mean of H
    certain          share of frames with H up to the gate
    confidence       mean probability of the class answered
    concentration    sum of the squared shares of the classes answered
    expected_error   mean of 1 - b, with b the belief in the class answered of a filter at the network's own temperature
    distance         mean over norms of sqrt(mean_c (T_m - m0)^2 / v0): of the statistics, now

and over the frames to which the frozen network answered, too:

    disagreement           share of them with another class
    contradiction          the same, where the frozen network's H is up to the gate
    frozen_concentration   as concentration, of its answers

Old frames are forgotten: after n frames the newest counts 1 / min(n, memory), and what was before fades alike. So at
first it is a plain mean. A frame whose probabilities are no distribution is `broken`, has entropy 1, is not certain and
answers no class.

How sure a network is says how often it is wrong only up to a temperature, and that differs from network to network. It
is measured once, with labels: see `fitted_temperature`. The filter that the answers come from weighs two temperatures
by what the stream shows, which names better classes; a belief that can be counted on needs the right one.

Plain numpy, O(C) numbers a camera; nothing here moves an answer.

Source:
    Guo et al. 2017, On calibration of modern neural networks (arXiv 1706.04599), for the temperature. Mean confidence
    as an estimate of accuracy: Hendrycks and Gimpel 2017 (arXiv 1610.02136); that it holds under shift where it is
    calibrated there: Garg et al. 2022 (arXiv 2201.04234). The beliefs of a filter in its place are our own.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ecotta_rt.adapt.channels import Channels
from ecotta_rt.adapt.filter import AnswerFilter
from ecotta_rt.adapt.follower import Followed
from ecotta_rt.errors import UsageError
from ecotta_rt.events import Signs
from ecotta_rt.options import AnswerKind

__all__ = [
    "DEFAULT_GATE",
    "MEMORY",
    "SAMPLES",
    "Mean",
    "Shares",
    "SignsRecipe",
    "Source",
    "StreamSigns",
    "entropies",
    "usable_gate",
]

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]

DEFAULT_GATE = 0.4
"""In units of ln C; that of the step, where it gates at all."""

MEMORY = 200
"""Frames that count."""

SAMPLES = 20
"""Frames with the frozen network's answer that count."""

_LEAST_VARIANCE = 1e-8
_LEAST_PROBABILITY = 1e-300


class Mean:
    """A mean that forgets: plain over the first `memory` values, exponential from there on.

    Attributes:
        count: Values so far.
        value: float64, of whatever shape the values have; before the first what it was made with.

    >>> mean = Mean(2)
    >>> for value in (1.0, 0.0, 0.0):
    ...     mean.take(value)
    >>> mean.value
    0.25
    """

    def __init__(self, memory: float, zero: "float | Doubles" = 0.0) -> None:
        self._memory, self.value, self.count = memory, zero, 0

    def take(self, value: "float | Doubles") -> None:
        self.count += 1
        self.value = self.value + (value - self.value) / min(self.count, self._memory)


class Shares:
    """Shares of the classes that were answered, with a `Mean` of each."""

    def __init__(self, classes: int, memory: float) -> None:
        self._mean = Mean(memory, np.zeros(classes))

    def take(self, label: int) -> None:
        one = np.zeros(np.shape(self._mean.value))
        one[label] = 1
        self._mean.take(one)

    @property
    def concentration(self) -> float:
        """The sum of their squares; 1 / C before the first."""
        shares = np.asarray(self._mean.value)
        return float(shares @ shares) if self._mean.count else 1 / len(shares)


@dataclass(frozen=True, eq=False)
class Source:
    """Statistics of the source, to tell how far others are from them.

    Attributes:
        channels: Where means and variances are in a vector of statistics.
        statistics: float32 `[S]`.
    """

    channels: Channels
    statistics: Floats

    @classmethod
    def of(cls, followed: Followed | None) -> "Source | None":
        """Of what follows a stream; None: nothing does."""
        return None if followed is None else cls(followed.channels, followed.source)

    def distance(self, statistics: Floats) -> float:
        """How far the means of `statistics`, float32 `[S]`, lie from those of the source.

        Returns:
            The mean over the norms of the root mean square over their channels, in standard deviations of the source;
            infinite where it is not finite.
        """
        source, now = self.channels.moments(self.statistics), self.channels.moments(statistics)
        variances = np.maximum(source.variances.astype(np.float64), _LEAST_VARIANCE)
        with np.errstate(over="ignore", invalid="ignore"):
            squares = (now.means.astype(np.float64) - source.means) ** 2 / variances
            starts = np.cumsum((0, *self.channels.sizes[:-1]))
            distance = float(np.sqrt(np.add.reduceat(squares, starts) / self.channels.sizes).mean())
        return distance if np.isfinite(distance) else float("inf")


@dataclass(frozen=True, eq=False)
class SignsRecipe:
    """What the signs of all cameras of one bundle have in common.

    Attributes:
        classes: C, at least 2.
        gate: Up to which entropy a frame is certain enough, in units of ln C, in [0, 1].
        source: Statistics of the source; None: nothing follows the stream.
        temperature: Of the network, see `fitted_temperature`; None: nobody measured it.
        answer: Which answer is given.
        memory: How many frames count, at least 1.
        samples: How many of those count that the frozen network answered, too; at least 1.

    Raises:
        UsageError: Fewer than 2 classes, or a number out of its range.
    """

    classes: int
    gate: float = DEFAULT_GATE
    source: Source | None = None
    temperature: float | None = None
    answer: AnswerKind = "filtered"
    memory: int = MEMORY
    samples: int = SAMPLES

    def __post_init__(self) -> None:
        if self.classes < 2:
            raise UsageError(f"{self.classes} classes: signs need at least 2 to tell apart")
        if not 0 <= self.gate <= 1:
            raise UsageError(f"gate {self.gate:g}: give a share of the largest entropy, from 0 to 1")
        if self.temperature is not None and not 0 < self.temperature < np.inf:
            raise UsageError(f"temperature {self.temperature:g}: give a number above 0")
        for name in ("memory", "samples"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} {getattr(self, name)}: give 1 frame or more")


class StreamSigns:
    """The signs of one stream.

    Args:
        recipe: What they are read by.

    Attributes:
        frames: How many have been taken.
        compared: How many of them the frozen network answered, too.
    """

    def __init__(self, recipe: SignsRecipe) -> None:
        self.recipe, classes, memory = recipe, recipe.classes, recipe.memory
        self._entropy, self._certain, self._confidence = Mean(memory), Mean(memory), Mean(memory)
        self._broken, self._wrong = Mean(memory), Mean(memory)
        self._shares, self._frozen_shares = Shares(classes, memory), Shares(classes, recipe.samples)
        self._disagreement, self._contradiction = Mean(recipe.samples), Mean(recipe.samples)
        self._beliefs = _calibrated(recipe)
        self.frames = self.compared = 0

    def take(self, unfiltered: Floats, filtered: Floats) -> None:
        """Take the answers to the frames of a batch, in their order.

        Args:
            unfiltered: `[N, C]`, the network's probabilities.
            filtered: `[N, C]`, those after the filter.

        Raises:
            UsageError: Of another size.
        """
        if unfiltered.shape != filtered.shape or unfiltered.shape[1:] != (self.recipe.classes,):
            sizes = f"{list(unfiltered.shape)} and {list(filtered.shape)}"
            raise UsageError(f"probabilities {sizes}: these signs are for [N, {self.recipe.classes}]")
        answers = filtered if self.recipe.answer == "filtered" else unfiltered
        beliefs = answers if self._beliefs is None else self._beliefs(unfiltered)
        usable = _usable(unfiltered) & _usable(answers)
        for entropy, answer, belief, good in zip(entropies(unfiltered), answers, beliefs, usable, strict=True):
            self.frames += 1
            self._broken.take(float(not good))
            self._entropy.take(float(entropy))
            self._certain.take(float(entropy <= self.recipe.gate))
            label = int(answer.argmax()) if good else 0
            self._confidence.take(min(float(answer[label]), 1.0) if good else 0.0)
            self._wrong.take(1 - min(float(belief[label]), 1.0) if good else 1.0)
            if good:
                self._shares.take(label)

    def compare(self, adapted: Floats, frozen: Floats) -> None:
        """Hear what the adapted and the frozen network say to one frame.

        Args:
            adapted: `[C]`, probabilities of the answer given. Where they are no distribution, that is a contradiction.
            frozen: `[C]`, those of the frozen network alone. Where they are none, nothing is learned from the frame.
        """
        if not _usable(frozen[None])[0]:
            return
        label = int(frozen.argmax())
        other = not _usable(adapted[None])[0] or int(adapted.argmax()) != label
        self.compared += 1
        self._disagreement.take(float(other))
        self._contradiction.take(float(other and entropies(frozen[None])[0] <= self.recipe.gate))
        self._frozen_shares.take(label)

    def told(self, frame: int, statistics: Floats | None = None) -> Signs:
        """What they are now.

        Args:
            frame: Position of the last frame.
            statistics: float32 `[S]`, with which the next frame will be answered; None: nothing follows.
        """
        source = self.recipe.source
        return Signs(
            frame=frame,
            frames=self.frames,
            entropy=float(self._entropy.value),
            certain=float(self._certain.value),
            concentration=self._shares.concentration,
            confidence=float(self._confidence.value),
            broken=float(self._broken.value),
            distance=None if source is None or statistics is None else source.distance(statistics),
            disagreement=float(self._disagreement.value) if self.compared else None,
            contradiction=float(self._contradiction.value) if self.compared else None,
            frozen_concentration=self._frozen_shares.concentration if self.compared else None,
            expected_error=float(self._wrong.value) if self._beliefs is not None and self.frames else None,
        )


def _calibrated(recipe: SignsRecipe) -> AnswerFilter | None:
    """Says how probable the answers are; one that trusts in nothing where they are not filtered."""
    if recipe.temperature is None:
        return None
    filtered = recipe.answer == "filtered"
    trust = {} if filtered else {"rate": 0.0, "most_trust": 0.0}
    return AnswerFilter(recipe.classes, temperatures=(recipe.temperature,), **trust)


def entropies(probabilities: Floats) -> Doubles:
    """Of each row of `[N, C]`, in units of ln C: float64 `[N]` in [0, 1]; 1 where it is no distribution."""
    rows = probabilities.astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        totals = rows.sum(axis=1)
        inner = (rows * np.log(np.maximum(rows, _LEAST_PROBABILITY))).sum(axis=1)
        found = (np.log(totals) - inner / totals) / math.log(rows.shape[1])  # of rows / totals
    clipped: Doubles = np.where(_usable(probabilities), np.minimum(np.maximum(found, 0), 1), 1.0)
    return clipped


def _usable(probabilities: Floats) -> NDArray[np.bool_]:
    """Which rows can be a distribution: finite, from 0, and not all 0."""
    # Of finite numbers none below 0: the least is one, and what is not a number makes the sum none.
    with np.errstate(over="ignore", invalid="ignore"):
        totals = probabilities.sum(axis=1, dtype=np.float64)
        usable: NDArray[np.bool_] = (probabilities.min(axis=1) >= 0) & (totals > 0) & (totals < np.inf)
    return usable


def usable_gate(margin: float) -> float:
    """A bundle's own gate in units of ln C; where it lets all frames through, that of the usual step."""
    return margin if 0 < margin < 1 else DEFAULT_GATE
