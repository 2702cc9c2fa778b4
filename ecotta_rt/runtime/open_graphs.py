"""The graphs of a bundle that are open: those of one rung of the ladder, with the buffers they need and no more.

As long as nothing is learned the parameters are constants of the graphs that answer, which makes them faster: unless
several streams take turns that have learned different ones.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecotta_rt.bundle import Bundle, GraphEntry
from ecotta_rt.options import COUPLED, SessionOptions
from ecotta_rt.records import Level
from ecotta_rt.runtime.choosing import graph_name, has_graph, run_options
from ecotta_rt.runtime.vectors import StateVectors
from ecotta_rt.session.costs import arena_overhead
from ecotta_rt.session.give_back import give_back_memory
from ecotta_rt.session.graph_run import GraphRun

__all__ = ["OpenGraphs"]

Floats = NDArray[np.float32]


class OpenGraphs:
    """Opens graphs, and closes those that a level does without.

    Args:
        bundle: Has them.
        vectors: What they read and write.
        options: How they are run.
        learning: Name -> kind of those that learn.
        piece: Frames a run.
        answers_too: Whether a graph that answers is wanted beside those that learn from each batch.

    Attributes:
        step_options: onnxruntime's, by which somebody may end a run that learns.
        answer_options: The same for one that answers.
        runs: Those that are open, by name.
        frames: Buffers for frames, by how many there are of them.
    """

    def __init__(
        self,
        bundle: Bundle,
        vectors: StateVectors,
        options: SessionOptions,
        learning: Mapping[str, str],
        piece: int,
        *,
        answers_too: bool = False,
    ) -> None:
        self._bundle, self._vectors, self._options = bundle, vectors, options
        self._learning, self._piece, self._answers_too = learning, piece, answers_too
        self._frame_shape = (bundle.manifest.frame.channels, *bundle.manifest.frame.size)
        self.step_options, self.answer_options = run_options(), run_options()
        self._learns = self._differ = False
        self.runs: dict[str, GraphRun] = {}
        self.frames: dict[int, Floats] = {}

    def run(self, name: str) -> GraphRun:
        """The graph of that name, opened where it is not."""
        if name not in self.runs:
            ends_by = self.step_options if name in self._learning else self.answer_options
            constants = {} if self._learns or self._differ else self._vectors.learned
            self.runs[name] = GraphRun(self._bundle, name, self._options, ends_by, constants)
        return self.runs[name]

    def answering(self, piece: int, follows: bool) -> GraphRun:
        """The graph that answers so many frames, and lets the statistics follow them or not."""
        return self.run(graph_name(self._bundle, self._answering_kind(follows), piece))

    def _answering_kind(self, follows: bool) -> str:
        return "observe" if follows and self._bundle.manifest.ports.observes else "predict"

    @property
    def held_piece(self) -> int:
        """Frames a run where each is answered from statistics that stay."""
        coupled = self._bundle.manifest.normalisation in COUPLED
        return 1 if has_graph(self._bundle, "predict", 1) and not coupled else self._piece

    def close_others(self, level: Level) -> None:
        """Close what a level does without, and give its memory back to the system."""
        self._learns = bool(self._learning) and level.learns
        fixed = {name for name, run in self.runs.items() if run.fixed and self._learns}
        others = (self.runs.keys() - self._wanted(level)) | fixed
        for name in others:
            del self.runs[name]
        in_use = {run.entry.batch for run in self.runs.values()}
        self.frames = {count: buffer for count, buffer in self.frames.items() if count in in_use}
        self._vectors.keep_for(self._kinds(level))
        for run in self.runs.values():
            run.forget_buffers()  # or those that were just dropped would live on in the graphs that stay
        if others:
            give_back_memory(self._options)

    def open(self, level: Level) -> None:
        """Open what a level wants."""
        self._learns = bool(self._learning) and level.learns
        self._vectors.keep_for(self._kinds(level))
        for name in self._wanted(level):
            self.run(name)

    def close_fixed(self) -> None:
        """Close those that have the parameters as constants: there are other ones now."""
        self.runs = {name: run for name, run in self.runs.items() if not run.fixed}

    def take_turns(self, before: Mapping[str, Floats]) -> None:
        """Another stream is in use; where it has learned other parameters than `before`, none are constants any more.

        The next run opens what is closed here.
        """
        now = self._vectors.learned
        if not self._differ and any(_differ(vector, now[name]) for name, vector in before.items()):
            self._differ = True
            self.close_fixed()

    def transient_bytes(self) -> int:
        """What the next batch will take for its tensors above what is held now, by the bundle's figures."""
        returning = self._options.memory == "returning"
        to_come = [self._tensor_bytes(run.entry) for run in self.runs.values() if returning or not run.has_run]
        return max(to_come, default=0)

    def pieces(self, frames: NDArray[Any], size: int) -> Iterator[Floats]:
        """The frames, so many a run, as the graphs want them."""
        for start in range(0, len(frames), size):
            yield self.scaled(frames[start : start + size])

    def scaled(self, frames: NDArray[Any]) -> Floats:
        """The frames as the graphs want them, in the one buffer there is for so many."""
        count = len(frames)
        if count not in self.frames:
            self.frames[count] = np.zeros((count, *self._frame_shape), np.float32)
        buffer = self.frames[count]
        if frames.dtype == np.uint8:
            planes = frames[:, None] if frames.ndim == 3 else frames.transpose(0, 3, 1, 2)
            np.divide(planes, np.float32(255), out=buffer, dtype=np.float32)
        else:
            buffer[:] = frames
        return buffer

    def _wanted(self, level: Level) -> list[str]:
        if level == Level.DROP:
            return []
        learning = [*self._learning] if level.learns else []
        if learning and level == Level.FULL and not self._answers_too:
            return learning
        holds = level == Level.INFERENCE
        kind, piece = self._answering_kind(not holds), self.held_piece if holds else self._piece
        return [*learning, graph_name(self._bundle, kind, piece)]

    def _kinds(self, level: Level) -> tuple[str, ...]:
        """Kinds of graphs that may run on a level."""
        return (*(self._learning.values() if level.learns else ()), "predict")

    def _tensor_bytes(self, entry: GraphEntry) -> int:
        """By the planner where the bundle has its figures, else by the exporter, who knows no arena."""
        for session in entry.sessions:
            if session.optimisation == self._options.optimisation:
                if self._options.memory == "returning":
                    return session.live_bytes
                return int(session.arena_bytes * arena_overhead(entry.batch))
        return entry.step_peak_bytes


def _differ(one: Floats, other: Floats) -> bool:
    return one is not other and not np.array_equal(one, other)
