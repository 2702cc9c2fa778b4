"""The state's vectors twice, side by side: a run reads one copy and writes the other.

What was written becomes current by a change of roles. So nothing is copied, and a result that is not to be trusted is
simply not taken over. Which vectors there are, and which graphs write them, is declared in the bundle. Statistics that
graphs only tell of belong to the camera's `Adaptation`, which moves them in place.

Several streams take turns: `current` and `exchange` hand over what is a stream's own. What runs write is shared by all.
"""

from collections.abc import Collection, Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from ecotta_rt.bundle import Manifest
from ecotta_rt.errors import InputFileError
from ecotta_rt.state import SECTIONS, AdaptState

__all__ = ["StateVectors", "Vectors"]

Floats = NDArray[np.float32]

Vectors = dict[str, Floats]
"""Of one stream: the state's sections by name."""

_STATISTICS = "statistics"


class StateVectors:
    """A state's sections as vectors, and the sums of gradients of a step that goes frame by frame.

    Args:
        manifest: Declares the vectors.
        state: To begin with.
        learns: Whether anything learns by gradients: then each stream has all vectors for itself. Where nothing does,
            streams share those that nobody moves.

    Attributes:
        now: By name, what a run reads.
        next: By name, what a run writes: those alone that a graph in use writes.
    """

    def __init__(self, manifest: Manifest, state: AdaptState, *, learns: bool = True) -> None:
        self._layout, self._ports, self._digest = manifest.layout, manifest.ports, manifest.network_digest
        self._initial: Vectors = dict(zip(SECTIONS, self._layout.pack(state), strict=True))
        self._shared = () if learns else tuple(name for name in SECTIONS if name != _STATISTICS)
        self.now: dict[str, Floats] = self.new()
        self.next: dict[str, Floats] = {}
        self._held = self._layout.held_of(state)

    def keep_for(self, kinds: Collection[str]) -> None:
        """Have what graphs of these kinds write, and let go of the rest."""
        sums = self._ports.gradients if "accumulate" in kinds else ()
        written = {name for kind in kinds for name in self._ports.written_by(kind)}
        self.next = {name: vector for name, vector in self.next.items() if name in (*written, *sums)}
        self.now = {name: vector for name, vector in self.now.items() if name in (*SECTIONS, *sums)}
        for name in sums:
            self.now.setdefault(name, np.zeros_like(self.now["parameters"]))
        for name in (*written, *sums):
            if name not in self.next:
                self.next[name] = np.zeros_like(self.now[name])

    def new(self) -> Vectors:
        """What a stream begins with."""
        return {name: v if name in self._shared else v.copy() for name, v in self._initial.items()}

    def current(self) -> Vectors:
        """What is the own of the stream that runs read now; nothing is copied."""
        return {name: self.now[name] for name in SECTIONS}

    def exchange(self, vectors: Vectors) -> None:
        """Have runs read those of another stream."""
        self.now.update(vectors)

    def use_statistics(self, vector: Floats | None) -> None:
        """Have runs read this vector, which somebody else moves; None: the one there is."""
        if vector is not None:
            self.now[_STATISTICS] = vector

    def take_over(self, names: Iterable[str]) -> None:
        """Let what was written of these be current."""
        for name in names:
            self.now[name], self.next[name] = self.next[name], self.now[name]

    def written_are_finite(self, names: Iterable[str]) -> bool:
        """Whether the next values are; of the state alone: a sum that is not makes an update that does not move."""
        return all(np.isfinite(self.next[name]).all() for name in names if name in SECTIONS)

    def clear_sums(self) -> None:
        """Begin adding up gradients anew."""
        for name in self._ports.gradients:
            self.now[name][:] = 0

    def add_up(self) -> None:
        """Take over the sums that a frame was added to."""
        self.take_over(self._ports.gradients)

    @property
    def followed(self) -> tuple[str, ...]:
        """Those that graphs move with each frame, whether it is learned from or not: of bundles up to version 4."""
        return self._ports.written_by("accumulate")

    @property
    def learned(self) -> dict[str, Floats]:
        """What learns, by name."""
        return {vector.name: self.now[vector.name] for vector in self._ports.state if vector.role == "learned"}

    def copy_of(self, names: Iterable[str]) -> dict[str, Floats]:
        """The current values of these."""
        return {name: self.now[name].copy() for name in names}

    def put_back(self, values: Mapping[str, Floats]) -> None:
        """Make `values` current again."""
        for name, vector in values.items():
            self.now[name][:] = vector

    def go_on_from(self, values: Mapping[str, Floats]) -> bool:
        """Make the vectors of a state current.

        Returns:
            Whether anything that learns is another now. Those that streams share are not overwritten, but exchanged.
        """
        before = self.copy_of(self.learned)
        for name in self._shared:
            if not np.array_equal(self.now[name], values[name]):
                initial = self._initial[name]
                self.now[name] = initial if np.array_equal(initial, values[name]) else values[name].copy()
        self.put_back({name: values[name] for name in values if name not in self._shared})
        return any(not np.array_equal(vector, self.now[name]) for name, vector in before.items())

    def as_state(self, metadata: Mapping[str, str]) -> AdaptState:
        """The current state as a value."""
        parameters, momentum, statistics = (self.now[name] for name in SECTIONS)
        return self._layout.unpack(parameters, momentum, statistics, self._digest, metadata, self._held)

    def unpacked(self, state: AdaptState) -> dict[str, Floats]:
        """The vectors of a state, by name, to be `put_back`.

        Raises:
            InputFileError: It lacks something, or has something more.
        """
        held = self._layout.held_of(state)
        other = next((name for name, array in held.items() if not np.array_equal(array, self._held[name])), None)
        if other is not None:
            raise InputFileError(
                f"this state has another {other} than the graphs, which hold it: it comes from another warm-up; take "
                "the bundle that was made with it"
            )
        return dict(zip(SECTIONS, self._layout.pack(state), strict=True))
