"""Contestants that run in onnxruntime: inference alone at its fastest, and the graphs of a bundle."""

from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from ecotta_rt.bench.inference_session import fastest_forward
from ecotta_rt.bench.job import Job
from ecotta_rt.bench.onnx_steps import open_onnx_step, to_floats

__all__ = ["open_timed_onnx"]

Floats = NDArray[np.float32]


def open_timed_onnx(job: Job, frames: NDArray[np.uint8]) -> "_Forward | _Step":
    """Load what `job` asks for; its method is `source` for inference alone.

    Args:
        job: With the files it needs.
        frames: A batch to try session options on.
    """
    ort.set_default_logger_severity(3)
    if job.method == "source" and job.forward is not None:
        return _Forward(Path(job.forward), job.threads, to_floats(frames))
    return _Step(job)


class _Forward:
    normalisation = "source"

    def __init__(self, path: Path, threads: int, frames: Floats) -> None:
        self._forward, self.session_options, _ = fastest_forward(path, threads, frames)

    def prepare(self, frames: NDArray[np.uint8]) -> Floats:
        return to_floats(frames)

    def __call__(self, frames: Floats) -> object:
        return self._forward(frames)


class _Step:
    def __init__(self, job: Job) -> None:
        self._step = open_onnx_step(job)
        self.normalisation, self.session_options = self._step.normalisation, self._step.session_options

    def prepare(self, frames: NDArray[np.uint8]) -> Floats:
        return to_floats(frames)

    def __call__(self, frames: Floats) -> object:
        return self._step(frames)
