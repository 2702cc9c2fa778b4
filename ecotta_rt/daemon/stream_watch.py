"""Watch whether one camera's answers are still right: signs, drift, doubt, and back to the last good state.

    watch = StreamWatch(recipe, stream.adaptation, FrozenLook(engine), options, clock)
    for event in watch.take(frames, prediction, position, count): ...       # after each batch
    if watch.collapsed: put the last good state back, then watch.begin_anew()

Signs are told every `every_s` and judged every `judge_every_s`. Nothing here moves what a stream has learned.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from ecotta_rt.adapt.adaptation import Adaptation
from ecotta_rt.adapt.drift import DriftDetector
from ecotta_rt.adapt.signs import SignsRecipe, StreamSigns
from ecotta_rt.daemon.doubts import DoubtLimits, Doubts
from ecotta_rt.events import Drift, Event
from ecotta_rt.machine.clock import Clock
from ecotta_rt.records import Prediction
from ecotta_rt.runtime.frozen_look import FrozenLook

__all__ = ["StreamWatch", "WatchTimes"]

_RECALL_FRAMES = 64
"""A place that was recalled so many frames before a drift was noticed, or later, is the one that it went to."""


@dataclass(frozen=True)
class WatchTimes:
    """How often, in seconds.

    Attributes:
        every_s: Signs are told.
        judge_every_s: They are judged.
        drift_every_s: A drift is told at most.
    """

    every_s: float = 60.0
    judge_every_s: float = 5.0
    drift_every_s: float = 10.0


class StreamWatch:
    """The watch over one stream.

    Args:
        recipe: What signs are read by.
        adaptation: Of the stream: its statistics, its memory of places, and the keys of its frames.
        look: At the frozen network.
        clock: Any that never jumps.
        times: How often.
        limits: Where doubt begins.

    Attributes:
        collapsed: Why the stream counts as collapsed, as a sentence; None: it does not.
    """

    def __init__(
        self,
        recipe: SignsRecipe,
        adaptation: Adaptation,
        look: FrozenLook,
        clock: Clock,
        times: WatchTimes | None = None,
        limits: DoubtLimits | None = None,
    ) -> None:
        self._recipe, self._adaptation, self._look, self._clock = recipe, adaptation, look, clock
        self._times = times or WatchTimes()
        self._signs, self._doubts = StreamSigns(recipe), Doubts(limits)
        now_s = clock.now_s()
        self._told_s = self._judged_s = now_s
        self._drift_s = now_s - self._times.drift_every_s
        self._detector: DriftDetector | None = None  # none before there are keys: a bundle may have none
        self._since_recall: int | None = None  # frames; None: the last change of place led to a new one
        self._drift: tuple[float, bool] | None = None  # the largest that was not told yet, and whether it was known

    @property
    def collapsed(self) -> str | None:
        return self._doubts.collapsed

    @property
    def in_doubt(self) -> bool:
        """Whether the last signs gave reason to doubt; a state that is saved then is not a good one."""
        return self._doubts.since_s is not None

    def take(self, frames: NDArray[Any], prediction: Prediction, position: int, count: int) -> Iterator[Event]:
        """Look at a batch that was answered.

        Args:
            frames: As the engine was given them.
            prediction: What was said of them.
            position: Of the last of them in the stream.
            count: How many there are; those behind them only fill the batch.
        """
        filtered = prediction.filtered[:count]
        self._signs.take(prediction.unfiltered[:count], filtered)
        answers = filtered if self._recipe.answer == "filtered" else prediction.unfiltered[:count]
        frozen = self._look.take(frames)
        for adapted, other in zip(answers, [] if frozen is None else frozen[:count], strict=False):
            self._signs.compare(adapted, other)
        now_s = self._clock.now_s()
        self._look_for_drift(count)
        yield from self._drifted(position, now_s)
        yield from self._judged(position, now_s)

    def begin_anew(self) -> None:
        """Forget all signs: another state answers from here on. Doubt stays until new ones end it."""
        self._signs = StreamSigns(self._recipe)
        self._doubts.collapsed = None
        self._adaptation.take_change()
        self._since_recall = self._drift = None

    def _look_for_drift(self, count: int) -> None:
        if self._since_recall is not None:
            self._since_recall += count
        change = self._adaptation.take_change()
        if change is not None:
            self._since_recall = 0 if change.known else None
        for key in self._adaptation.take_keys()[:count]:
            self._detector = self._detector or DriftDetector(len(key))
            size = self._detector.take(key)
            if size is not None and (self._drift is None or size > self._drift[0]):
                self._drift = size, self._since_recall is not None and self._since_recall <= _RECALL_FRAMES

    def _drifted(self, position: int, now_s: float) -> Iterator[Event]:
        """The largest drift since the last one was told, and at most one every so often."""
        if self._drift is not None and now_s - self._drift_s >= self._times.drift_every_s:
            yield Drift(position, *self._drift)
            self._drift, self._drift_s = None, now_s

    def _judged(self, position: int, now_s: float) -> Iterator[Event]:
        tells = now_s - self._told_s >= self._times.every_s
        if not tells and now_s - self._judged_s < self._times.judge_every_s:
            return
        self._judged_s = now_s
        signs = self._signs.told(position, self._adaptation.statistics)
        if tells:
            self._told_s = now_s
            yield signs
        yield from self._doubts.judge(signs, self._signs.compared, now_s)
