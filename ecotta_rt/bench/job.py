"""What one measured process is told to do."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

__all__ = ["Job"]


@dataclass(frozen=True)
class Job:
    """One method, one network, one stream.

    Attributes:
        method: Method id.
        network: File of the trained network.
        resource: File of the warmed-up meta groups or the fine-tuned network, where the method needs one.
        recording: Folder of the stream's recording.
        source_recording: Folder of a recording of clean training images, where the method needs some.
        batch: Frames a step.
        normalisation: `batch`, `running` or `source`, for EcoTTA.
        gradient: `exact` or `constant`, for EcoTTA.
        hyperparameters: What EcoTTA's step has otherwise than `ADAPTATION`; torch only.
        memory_format: `channels_last` or `contiguous`; torch only.
        allocator: `returning` or `libc`.
        threads: Threads of the process.
        seed: Seed of whatever the method draws at random.
        engine: `torch` or `onnx`; what follows is for onnx.
        bundle: Bundle of the method's graphs, where it has some.
        forward: The inference-only graph of the source network.
        frame_by_frame: Learn from a batch in the memory of one frame.
        fast: Prefer the step of more memory and less time.
        optimisation: What onnxruntime does to a graph at load; see `ecotta_rt.session.opening`.
        memory_kind: Where a session's tensors live; see there.
        way_out: Of the memory cage that the process is in, for either engine; None where it is in none. It leaves when
            the stream is over, since what is measured afterwards is not the method's.
    """

    method: str
    network: str
    resource: str | None
    recording: str
    source_recording: str | None
    batch: int
    normalisation: str
    gradient: str
    memory_format: str
    allocator: str
    threads: int
    seed: int
    hyperparameters: Mapping[str, float] = field(default_factory=dict)
    engine: str = "torch"
    bundle: str | None = None
    forward: str | None = None
    frame_by_frame: bool = False
    fast: bool = False
    optimisation: str = "all"
    memory_kind: str = "arena"
    way_out: str | None = None

    def to_json(self) -> str:
        """The job in one line."""
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(text: str) -> "Job":
        """The job that `to_json` wrote."""
        return Job(**json.loads(text))
