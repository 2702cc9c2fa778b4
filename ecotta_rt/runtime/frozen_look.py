"""Ask now and then what the frozen network says to the same frames: the bundle's own state, as it was delivered.

Where it disagrees the adapted one may be right: that is what it adapts for. But a network that has collapsed gives
itself away by it. See `ecotta_rt.adapt.second_opinion`.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecotta_rt.errors import EcottaError, UsageError
from ecotta_rt.records import Level
from ecotta_rt.runtime.engine import Runtime

__all__ = ["FrozenLook"]


class FrozenLook:
    """Answers one batch in so many a second time, from the state that the bundle begins with.

    That takes as long as a step, so the default adds 2 % to all steps. No graph is opened for it, and nothing is kept
    from one look to the next. On a level that answers frame by frame or not at all there are no looks.

    Args:
        engine: Whose graphs answer.
        every: One batch in so many; 0: none.

    Raises:
        UsageError: A number below 0.
    """

    def __init__(self, engine: Runtime, every: int = 50) -> None:
        if every < 0:
            raise UsageError(f"a look every {every} batches: give 1 or more, 0 for none")
        self._engine, self._every, self._batches = engine, every, 0

    def take(self, frames: NDArray[Any]) -> NDArray[np.float32] | None:
        """Count a batch; where its turn has come, what the frozen network says of it.

        Args:
            frames: As the engine was given them.

        Returns:
            Probabilities, float32 `[N, C]`, of the network alone; None: it is not asked now, or could not answer.
        """
        self._batches += 1
        if not self._every or self._batches % self._every or self._engine.level > Level.STATISTICS:
            return None
        before = self._engine.use(self._engine.new_stream())
        try:
            # The graph that is open anyway; what a step would learn goes with the stream.
            learns = self._engine.graph is not None and self._engine.level == Level.FULL
            return (self._engine if learns else self._engine.predict)(frames).unfiltered
        except (EcottaError, MemoryError):  # given up, or no memory: the next look may have more
            return None
        finally:
            self._engine.use(before)
