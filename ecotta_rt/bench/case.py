"""What one measured process is told."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from ecotta_rt.bench.peers import METHODS

__all__ = ["FORWARD", "Case"]

FORWARD = "forward"
"""Inference alone, the denominator of every race."""

_FEW_ROUNDS = {"cotta": 2}
"""Turns of methods whose single step takes longer than a round of all others."""


@dataclass(frozen=True)
class Case:
    """One method, one network, one stream.

    Attributes:
        method: Method id; `source` for inference alone.
        engine: `torch` or `onnx`.
        batch: Frames a step.
        threads: Threads of the process.
        normalisation: `batch`, `running` or `source`, for EcoTTA; the peers have their own.
        stream: Play the frames of a stream, batch after batch whatever changes between them, and tell every answer.
        timed: Take turns in a race with others, instead of playing the stream once.
        gradient: `exact` or `constant`, for EcoTTA.
        seed: Seed of whatever the method draws at random.
        hyperparameters: What EcoTTA's step has otherwise than `ADAPTATION`; torch only.
        learning_rate: Step size of a peer; None for its paper's.
        views: 2 averages the answers to each frame and its mirror image; not for inference alone in onnx.
        memory_format: `channels_last` or `contiguous`; torch only. Where it is timed, the faster one is found by trial.
        allocator: One of `ALLOCATORS`.
        frame_by_frame: Learn from a batch in the memory of one frame; onnx only, as all below but the files.
        fast: Prefer the step of more memory and less time.
        optimisation: What onnxruntime does to a graph at load; see `ecotta_rt.options.OPTIMISATIONS`.
        memory_kind: Where a session's tensors live; see `ecotta_rt.options.MEMORY_KINDS`.
        network: File of the trained network.
        resource: File of the warmed-up meta groups or the fine-tuned network, where the method needs one.
        bundle: Bundle of the method's graphs, where it has some.
        forward: The inference-only graph of the source network.
        recording: Folder of the stream's recording.
        source_recording: Folder of a recording of clean training images, where the method needs some.
        way_out: Of the memory cage that the process is in, for either engine; None where it is in none. It leaves when
            the stream is over, since what is measured afterwards is not the method's.
    """

    method: str
    engine: str
    batch: int
    threads: int
    normalisation: str
    stream: bool = False
    timed: bool = False
    gradient: str = "exact"
    seed: int = 0
    hyperparameters: Mapping[str, float] = field(default_factory=dict)
    learning_rate: float | None = None
    views: int = 1
    memory_format: str = "channels_last"
    allocator: str = "libc"
    frame_by_frame: bool = False
    fast: bool = False
    optimisation: str = "all"
    memory_kind: str = "arena"
    network: str = ""
    resource: str | None = None
    bundle: str | None = None
    forward: str | None = None
    recording: str = ""
    source_recording: str | None = None
    way_out: str | None = None

    @property
    def name(self) -> str:
        """What its row is called: a method id; in a race perhaps with `-fast`, or `forward`."""
        if not self.timed:
            return self.method
        if self.method == "source" and self.engine == "onnx":
            return FORWARD
        return f"{self.method}-fast" if self.fast else self.method

    @property
    def label(self) -> str:
        """For people, who tell the contestants of a race apart by it: `onnx ecotta-k4 running`."""
        if not self.timed:
            return self.method
        return f"{self.engine} {self.name}" + (f" {self.normalisation}" if self.from_bundle else "")

    @property
    def from_bundle(self) -> bool:
        """Whether its graph comes from a bundle."""
        return self.engine == "onnx" and METHODS[self.method].graph in ("step", "predict")

    def rounds(self, asked: int) -> int:
        """How many turns it has in a race of so many rounds."""
        return min(asked, _FEW_ROUNDS.get(self.method, asked))

    def to_json(self) -> str:
        """The case in one line."""
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(text: str) -> "Case":
        """The case that `to_json` wrote."""
        return Case(**json.loads(text))
