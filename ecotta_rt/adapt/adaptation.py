"""What one camera's stream has taught without gradients, and how it goes on: one object a camera.

    recipe = Recipe(options, classes, followed)       # of a bundle; cameras share it
    adaptation = Adaptation(recipe)
    filtered = adaptation.take(probabilities, entropy, seen)
    adaptation.statistics                             # to answer the next batch with

Plain numpy on flat vectors: it knows no graph.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ecotta_rt.adapt.filter import AnswerFilter
from ecotta_rt.adapt.follower import Followed, StatisticsFollower
from ecotta_rt.errors import UsageError
from ecotta_rt.options import AdaptationOptions

__all__ = ["Adaptation", "Recipe"]

Floats = NDArray[np.float32]


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


class Adaptation:
    """Filter, statistics and memory of one stream.

    Args:
        recipe: How to follow it.

    Raises:
        UsageError: The recipe contradicts itself.
    """

    def __init__(self, recipe: Recipe) -> None:
        self.recipe, options = recipe, recipe.options
        self._filter = AnswerFilter(recipe.classes, options.filter_rate, options.most_trust)
        self._follower = None if recipe.followed is None else StatisticsFollower(recipe.followed, options)
        self._most_entropy = options.gate * math.log(recipe.classes)

    @property
    def statistics(self) -> Floats | None:
        """float32 `[S]`, to answer the next batch with: one array, moved in place. None: nothing follows."""
        return None if self._follower is None else self._follower.now

    def take(self, probabilities: Floats, entropy: Floats, seen: Floats | None = None) -> Floats:
        """Filter the answers to the frames of a batch, and let the statistics follow what was seen in them.

        Args:
            probabilities: float32 `[N, K]`, the network's. A frame for which they are not finite moves nothing.
            entropy: float32 `[N]`, nats.
            seen: float32 `[N, S]`, each frame's own means and variances; None: the statistics stay as they are.

        Returns:
            float32 `[N, K]`.

        Raises:
            UsageError: Of another size.
        """
        filtered = self._filter(probabilities)
        if seen is not None and self._follower is not None:
            finite = np.isfinite(probabilities).all(axis=1)
            self._follower.take(seen[finite], filtered[finite], entropy[finite] < self._most_entropy)
        return filtered

    def arrays(self) -> dict[str, Floats]:
        """All that stays from frame to frame beside the statistics, as copies: to save it, or to put it back."""
        arrays = {f"filter.{name}": array for name, array in self._filter.arrays().items()}
        if self._follower is not None:
            arrays |= {f"statistics.{name}": array for name, array in self._follower.arrays().items()}
        return arrays

    def restore(self, statistics: Floats | None, arrays: Mapping[str, Floats]) -> None:
        """Go on from statistics and from what `arrays` gave. When it fails, all is as it was.

        Args:
            statistics: float32 `[S]`, where any follow.
            arrays: As saved; none: filter and memory begin anew.

        Raises:
            UsageError: They are of another network, or were saved with other options.
        """
        fresh = Adaptation(self.recipe)
        expected = fresh.arrays()
        if arrays:
            _require_alike(arrays, expected)
        given = {**expected, **arrays}
        fresh._filter.restore(_part(given, "filter."))
        if self._follower is not None and statistics is not None:
            self._follower.restore(statistics, _part(given, "statistics."))
        self._filter = fresh._filter


def _part(arrays: Mapping[str, Floats], prefix: str) -> dict[str, Floats]:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def _require_alike(arrays: Mapping[str, Floats], expected: Mapping[str, Floats]) -> None:
    for name in (*arrays.keys() - expected.keys(), *expected.keys() - arrays.keys()):
        raise UsageError(f"adaptation/{name} is in only one of state and bundle: it was saved with other options")
    for name, array in arrays.items():
        if array.shape != expected[name].shape:
            shapes = f"{list(array.shape)}, expected {list(expected[name].shape)}"
            raise UsageError(f"adaptation/{name} is {shapes}: it was saved with other options")
