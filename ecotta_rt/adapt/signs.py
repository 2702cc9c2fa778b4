"""Signs of whether the answers to one stream are still right. Nobody has labels there, so they come from the answers.

    signs = StreamSigns(classes, gate=0.4)
    signs.take(prediction.unfiltered, prediction.filtered)     # after each batch
    signs.compare(adapted_label, frozen_label)                 # of some frames
    signs.told(frame, statistics)                              # the event, every so often

With p the network's probabilities of a frame and H their entropy in units of ln C, over the frames so far:

    entropy          mean of H
    certain          share of frames with H up to the gate
    concentration    sum of the squared shares of the answered classes
    disagreement     share of sampled frames to which the frozen network answers something else
    distance         mean over norms of sqrt(mean_c (T_m - m0)^2 / v0): of the statistics, now

Old frames are forgotten: after n frames the newest counts 1 / min(n, memory), and what was before fades alike. So at
first it is a plain mean. A frame whose probabilities are no distribution has entropy 1 and is not certain; it answers
no class.

Plain numpy, O(C) numbers a camera; nothing here moves an answer.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ecotta_rt.adapt.channels import Channels
from ecotta_rt.adapt.follower import Followed
from ecotta_rt.errors import UsageError
from ecotta_rt.events import Signs

__all__ = ["DEFAULT_GATE", "Mean", "Source", "StreamSigns", "entropies", "usable_gate"]

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]

DEFAULT_GATE = 0.4
"""In units of ln C; that of the step, where it gates at all."""

_MEMORY = 200
_SAMPLES_MEMORY = 50
_LEAST_VARIANCE = 1e-8


class Mean:
    """A mean that forgets: plain over the first `memory` values, exponential from there on.

    Attributes:
        count: Values so far.
        value: float64, of whatever shape the values have; 0 before the first.

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


class StreamSigns:
    """The signs of one stream.

    Args:
        classes: C, at least 2.
        gate: Up to which entropy a frame is certain enough, in units of ln C, in [0, 1].
        memory: How many frames are remembered, at least 1.
        source: Statistics of the source; None: nothing follows the stream.

    Attributes:
        frames: How many have been taken.

    Raises:
        UsageError: Fewer than 2 classes, or a number out of its range.
    """

    def __init__(
        self, classes: int, gate: float = DEFAULT_GATE, memory: int = _MEMORY, source: Source | None = None
    ) -> None:
        if classes < 2:
            raise UsageError(f"{classes} classes: signs need at least 2 to tell apart")
        if not 0 <= gate <= 1:
            raise UsageError(f"gate {gate:g}: give a share of the largest entropy, from 0 to 1")
        if memory < 1:
            raise UsageError(f"memory {memory}: give 1 frame or more")
        self._classes, self._gate, self._source = classes, gate, source
        self._entropy, self._certain = Mean(memory), Mean(memory)
        self._shares = Mean(memory, np.zeros(classes))
        self._disagreement = Mean(min(memory, _SAMPLES_MEMORY))
        self.frames = 0

    def take(self, unfiltered: Floats, filtered: Floats) -> None:
        """Take the answers to the frames of a batch, in their order.

        Args:
            unfiltered: `[N, C]`, the network's probabilities.
            filtered: `[N, C]`, those after the filter.

        Raises:
            UsageError: Of another size.
        """
        if unfiltered.shape != filtered.shape or unfiltered.shape[1:] != (self._classes,):
            sizes = f"{list(unfiltered.shape)} and {list(filtered.shape)}"
            raise UsageError(f"probabilities {sizes}: these signs are for [N, {self._classes}]")
        for frame, entropy, answer in zip(unfiltered, entropies(unfiltered), filtered, strict=True):
            self.frames += 1
            self._entropy.take(float(entropy))
            self._certain.take(float(entropy <= self._gate))
            if np.isfinite(frame).all() and np.isfinite(answer).all():
                self._shares.take(self._one(int(answer.argmax())))

    def compare(self, adapted: int, frozen: int) -> None:
        """Hear the classes that the adapted and the frozen network gave to one frame."""
        self._disagreement.take(float(adapted != frozen))

    def told(self, frame: int, statistics: Floats | None = None) -> Signs:
        """What they are now.

        Args:
            frame: Position of the last frame.
            statistics: float32 `[S]`, with which the next frame will be answered; None: nothing follows.
        """
        far = None if self._source is None or statistics is None else self._source.distance(statistics)
        return Signs(
            frame=frame,
            frames=self.frames,
            entropy=float(self._entropy.value),
            certain=float(self._certain.value),
            concentration=self._concentration(),
            distance=far,
            disagreement=float(self._disagreement.value) if self._disagreement.count else None,
        )

    def _concentration(self) -> float:
        shares = self._shares.value
        return float(np.sum(shares * shares)) if self._shares.count else 1 / self._classes

    def _one(self, label: int) -> Doubles:
        one = np.zeros(self._classes)
        one[label] = 1
        return one


def entropies(probabilities: Floats) -> Doubles:
    """Of each row of `[N, C]`, in units of ln C: float64 `[N]` in [0, 1]; 1 where it is no distribution."""
    rows = probabilities.astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        rows = rows / rows.sum(axis=1, keepdims=True)
        found = -(rows * np.log(np.where(rows > 0, rows, 1))).sum(axis=1) / np.log(rows.shape[1])
    usable = np.isfinite(rows).all(axis=1) & (rows >= 0).all(axis=1)
    return np.where(usable, np.clip(np.where(usable, found, 1), 0, 1), 1.0)


def usable_gate(margin: float) -> float:
    """A bundle's own gate in units of ln C; where it lets all frames through, that of the usual step."""
    return margin if 0 < margin < 1 else DEFAULT_GATE
