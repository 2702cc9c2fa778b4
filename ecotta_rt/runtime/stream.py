"""What one camera's stream has taught: its adaptation, and where the network learns by gradients its own parameters.

    door, yard = runtime.stream, runtime.new_stream()
    runtime.use(yard)
    prediction = runtime(frames)

Streams of one Runtime share the frozen weights and the open graphs, and nothing that moves.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ecotta_rt.adapt.adaptation import Adaptation
from ecotta_rt.records import Prediction
from ecotta_rt.state import MERGED, FramesBehind

if TYPE_CHECKING:
    from ecotta_rt.runtime.vectors import StateVectors, Vectors

__all__ = ["Stream"]


class Stream:
    """One camera's part of a `Runtime`; made by `Runtime.new_stream`, and put to use by `Runtime.use`.

    What it holds is read and put back through the Runtime that uses it: `state`, `restore`, `save_state` and `reset`
    are of the stream in use.

    Attributes:
        adaptation: What it has taught without gradients.
        metadata: Of the state that it began with.
        behind: How many frames have made it what it is.
    """

    def __init__(self, adaptation: Adaptation, vectors: "Vectors", metadata: Mapping[str, str]) -> None:
        self.adaptation = adaptation
        self._vectors = vectors
        self.begin_from(metadata)

    def begin_from(self, metadata: Mapping[str, str]) -> None:
        """Take over what a state's metadata say."""
        self.metadata = {name: text for name, text in metadata.items() if not name.startswith(MERGED)}
        self.behind = FramesBehind.begun_from(metadata)

    def count(self, prediction: Prediction, frames: int) -> None:
        """Note that so many frames, answered by this, were followed, and learned from where they were."""
        if prediction.why != "not-finite":
            learned = int(prediction.kept[:frames].sum()) if prediction.adapted else 0
            self.behind = self.behind.plus(frames, learned)

    def enter(self, vectors: "StateVectors") -> None:
        """Let runs read what is this stream's own."""
        vectors.exchange(self._vectors)
        vectors.use_statistics(self.adaptation.statistics)

    def leave(self, vectors: "StateVectors") -> None:
        """Take along what has become current: a run writes beside what it reads, and the two change roles."""
        self._vectors = vectors.current()
