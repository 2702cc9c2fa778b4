"""What one camera's stream has taught without gradients, and how it goes on: one object a camera.

    recipe = Recipe(options, classes, followed)       # of a bundle; cameras share it
    adaptation = Adaptation(recipe)
    filtered, moved = adaptation.take(probabilities, seen)
    adaptation.statistics                             # to answer the next batch with

Plain numpy on flat vectors: it knows no graph.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ecotta_rt.adapt.channels import Moments
from ecotta_rt.adapt.filter import AnswerFilter
from ecotta_rt.adapt.follower import Followed, StatisticsFollower
from ecotta_rt.adapt.places import Change, Places
from ecotta_rt.errors import UsageError
from ecotta_rt.options import AdaptationOptions

__all__ = ["Adaptation", "Recipe"]

Floats = NDArray[np.float32]

_LARGE = np.float32(1e15)  # far from the range's end, even when squared: only beyond it can following overflow


@dataclass(frozen=True, eq=False)
class Recipe:
    """What the adaptations of all cameras of one bundle have in common.

    Attributes:
        options: Rules and constants.
        classes: K.
        followed: The statistics that follow the frames; None: there are none, or the graphs move them.
    """

    options: AdaptationOptions
    classes: int
    followed: Followed | None = None

    def check(self) -> None:
        """Raise `UsageError` where it contradicts itself."""
        Adaptation(self)


class Adaptation:
    """Filter, statistics and memory of one stream.

    Args:
        recipe: How to follow it.

    Raises:
        UsageError: The recipe contradicts itself.
    """

    def __init__(self, recipe: Recipe) -> None:
        self.recipe, options, followed = recipe, recipe.options, recipe.followed
        self._filter = AnswerFilter(recipe.classes, options.filter_rate, options.most_trust)
        self._follower = None if followed is None else StatisticsFollower(followed, options)
        self._statistics = None if followed is None else followed.source.copy()
        self._places = None if followed is None else _places(followed, options.places)
        self._keys: list[Floats] = []

    @property
    def statistics(self) -> Floats | None:
        """float32 `[S]`, to answer the next batch with: one array, moved in place. None: nothing follows."""
        return self._statistics

    def take(self, probabilities: Floats, seen: Floats | None, finite: bool = True) -> tuple[Floats, bool]:
        """Filter the answers to the frames of a batch, and let the statistics follow these; all of it or nothing.

        Args:
            probabilities: float32 `[N, K]`, the network's.
            seen: float32 `[N, S]`, each frame's own means and variances; None: nothing follows.
            finite: Whether all else of the step is; where not, nothing moves.

        Returns:
            The filtered answers, float32 `[N, K]`, and whether anything moved: where something in a frame is not
            finite, filter, statistics and memory are as they were.

        Raises:
            UsageError: Of another size.
        """
        before = self._filter.arrays()
        filtered = self.filter(probabilities)
        moved = finite and (seen is None or self.follow(seen, filtered))
        if not moved:
            self._filter.restore(before)
        return filtered, moved

    def filter(self, probabilities: Floats) -> Floats:
        """The filtered answers to the frames of a batch, in their order.

        Args:
            probabilities: float32 `[N, K]`, the network's. A frame for which they are not finite changes nothing.

        Returns:
            float32 `[N, K]`.

        Raises:
            UsageError: Of another size.
        """
        return self._filter(probabilities)

    def follow(self, seen: Floats, weights: Floats) -> bool:
        """Let the statistics follow what was seen in the frames of a batch, in their order.

        Args:
            seen: float32 `[N, S]`, each frame's own means and variances.
            weights: float32 `[N, K]`, how much each frame is of each class: the filtered probabilities.

        Returns:
            Whether all came out finite; where not, statistics and memory have not moved.
        """
        followed, statistics = self.recipe.followed, self._statistics
        self._keys = []
        if followed is None or statistics is None:
            return True
        if not np.isfinite(seen).all():
            return False
        # Copied where it may be needed alone: it is as large as the statistics of all places.
        places = copy.deepcopy(self._places) if np.abs(seen).max(initial=0) > _LARGE else self._places
        channels, now = followed.channels, followed.channels.moments(statistics)
        with np.errstate(over="ignore", invalid="ignore"):
            for vector, classes in zip(seen, weights, strict=True):
                now = self._after_frame(now, channels.moments(vector), classes)
        if not all(np.isfinite(moments).all() for moments in now):
            self._places = places
            return False
        channels.put(now, statistics)
        return True

    def _after_frame(self, now: Moments, frame: Moments, classes: Floats) -> Moments:
        followed = self.recipe.followed
        assert self._follower is not None and followed is not None
        gain = followed.momentum
        if self._places is not None and followed.key is not None:
            first = followed.channels.part(followed.key.norm)
            key = followed.key.of(Moments(frame.means[first], frame.variances[first]))
            if not np.isfinite(key).all():  # numbers so large that whitening is too much: it would stay in the memory
                return now
            self._keys.append(key)
            now = self._places.notice(key, now) or now
            gain = self._places.momentum(gain)
        return self._follower.moved(now, frame, classes, gain)

    def take_change(self) -> Change | None:
        """The last change of place that was noticed since this was asked before; None: there was none."""
        if self._places is None:
            return None
        change, self._places.change = self._places.change, None
        return change

    def take_keys(self) -> list[Floats]:
        """Keys of the frames of the last batch that was followed, each float32 `[D]`; none where they were taken."""
        keys, self._keys = self._keys, []
        return keys

    def arrays(self) -> dict[str, Floats]:
        """All that stays from frame to frame beside the statistics, as copies: to save it, or to put it back."""
        parts = {"filter": self._filter, "places": self._places}
        return {f"{part}.{name}": a for part, its in parts.items() if its for name, a in its.arrays().items()}

    def restore(self, statistics: Floats | None, arrays: Mapping[str, Floats]) -> bool:
        """Go on from statistics and from what `arrays` gave. When it fails, all is as it was.

        Args:
            statistics: float32 `[S]`, where any follow.
            arrays: As saved; none: filter and memory begin anew.

        Returns:
            Whether the memory of places goes on as it was saved; one saved with other options begins anew.

        Raises:
            UsageError: They are of another network, or damaged.
        """
        fresh, places = Adaptation(self.recipe), _part(arrays, "places.")
        alike = not arrays or _shapes(places) == _shapes(_part(fresh.arrays(), "places."))
        if arrays:
            rest = {name: array for name, array in arrays.items() if not name.startswith("places.")}
            _require_alike(rest, {f"filter.{name}": array for name, array in fresh._filter.arrays().items()})
            fresh._filter.restore(_part(arrays, "filter."))
            if fresh._places is not None and alike:
                fresh._places.restore(places)
        if statistics is not None and self._statistics is not None:
            if statistics.shape != self._statistics.shape:
                raise UsageError(f"statistics {list(statistics.shape)} are of another network")
            self._statistics[:] = statistics
        self._filter, self._places = fresh._filter, fresh._places
        return alike


def _places(followed: Followed, capacity: int) -> Places | None:
    if followed.key is None:
        return None
    source = followed.channels.moments(followed.source)
    return Places(source, len(followed.key.centre), capacity)


def _part(arrays: Mapping[str, Floats], prefix: str) -> dict[str, Floats]:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def _shapes(arrays: Mapping[str, Floats]) -> dict[str, tuple[int, ...]]:
    return {name: array.shape for name, array in arrays.items()}


def _require_alike(arrays: Mapping[str, Floats], expected: Mapping[str, Floats]) -> None:
    for name in (*arrays.keys() - expected.keys(), *expected.keys() - arrays.keys()):
        raise UsageError(f"adaptation/{name} is in only one of state and bundle: it was saved with other options")
    for name, array in arrays.items():
        if array.shape != expected[name].shape:
            shapes = f"{list(array.shape)}, expected {list(expected[name].shape)}"
            raise UsageError(f"adaptation/{name} is {shapes}: it was saved with other options")
