"""A method of the benchmark in onnxruntime: EcoTTA's step or its prediction from a bundle, or inference alone.

Nothing here or below imports torch.
"""

import math
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ecotta_rt.bench.graph_use import GraphUse, graph_use
from ecotta_rt.bench.inference_session import frugal_forward
from ecotta_rt.bench.job import Job
from ecotta_rt.bundle import Bundle, GraphEntry, read_bundle
from ecotta_rt.errors import UsageError
from ecotta_rt.options import SessionOptions
from ecotta_rt.runtime.engine import Runtime

__all__ = ["OnnxStep", "open_onnx_step", "to_floats"]


class OnnxStep(Protocol):
    """What a row says of a method, and the method itself.

    Attributes:
        normalisation: Statistics its norms use.
        classes: Logits a frame.
        trainable_parameters: Scalars it may change.
        activation_bytes: As planned in its graph.
        step_peak_bytes: As planned in its graph.
        session_options: How it is run.
    """

    normalisation: str
    classes: int
    trainable_parameters: int
    activation_bytes: int
    step_peak_bytes: int
    session_options: dict[str, str | int]

    def __call__(self, frames: NDArray[np.uint8] | NDArray[np.float32]) -> NDArray[np.int64]:
        """Answer, then learn.

        Args:
            frames: uint8 `[N, H, W, 3]`, or float32 `[N, 3, H, W]` in [0, 1]; N is the job's batch.

        Returns:
            A label for each.
        """


def open_onnx_step(job: Job) -> OnnxStep:
    """Load what `job` asks for.

    Raises:
        UsageError: The method cannot run in onnxruntime, or the job lacks its files.
        InputFileError: A file cannot be used.
    """
    use = graph_use(job.method)
    options = SessionOptions(job.threads, job.optimisation, job.memory_kind)
    if use is not None and use.kind == "forward" and job.forward is not None:
        return _Inference(Path(job.forward), options, job.batch)
    if use is None or job.bundle is None:
        raise UsageError(f"{job.method} cannot run in onnxruntime without a bundle of its graphs")
    return _FromBundle(read_bundle(job.bundle), use, job, options)


def to_floats(frames: NDArray[np.uint8]) -> NDArray[np.float32]:
    """uint8 `[N, H, W, 3]` to float32 `[N, 3, H, W]` in [0, 1]."""
    return np.ascontiguousarray(frames.transpose(0, 3, 1, 2)).astype(np.float32) / np.float32(255)


class _Inference:
    """The source network as it is."""

    normalisation = "source"
    trainable_parameters = 0
    activation_bytes = 0

    def __init__(self, path: Path, options: SessionOptions, frames: int) -> None:
        self._forward = frugal_forward(path, options, frames)
        self.classes = self._forward.classes
        self.step_peak_bytes = self._forward.step_peak_bytes
        self.session_options = options.as_json()

    def __call__(self, frames: NDArray[np.uint8] | NDArray[np.float32]) -> NDArray[np.int64]:
        labels: NDArray[np.int64] = self._forward(frames).argmax(axis=1)
        return labels


class _FromBundle:
    """A runtime that learns, or only predicts."""

    def __init__(self, bundle: Bundle, use: GraphUse, job: Job, options: SessionOptions) -> None:
        manifest, learns = bundle.manifest, use.kind == "step"
        self._runtime = Runtime(
            bundle,
            batch=job.batch,
            frame_by_frame=job.frame_by_frame,
            fast=job.fast,
            adapt=learns,
            options=options,
        )
        self._answer = self._runtime if learns else self._runtime.predict
        graphs = _graphs(bundle, self._runtime.graph, job)
        self.normalisation = manifest.normalisation
        self.classes = len(manifest.classes)
        self.trainable_parameters = sum(math.prod(a.shape) for a in manifest.layout.parameters) if learns else 0
        self.activation_bytes = max(graph.activation_bytes for graph in graphs) if learns else 0
        self.step_peak_bytes = max(graph.step_peak_bytes for graph in graphs)
        self.session_options = {
            **options.as_json(),
            "graph": ", ".join(graph.name for graph in graphs),
        }
        if learns:
            self.session_options["gradient"] = str(manifest.options.get("frozen_gradient", ""))

    def __call__(self, frames: NDArray[np.uint8] | NDArray[np.float32]) -> NDArray[np.int64]:
        return self._answer(frames).labels


def _graphs(bundle: Bundle, learning: str | None, job: Job) -> list[GraphEntry]:
    """The graphs that a step runs."""
    if learning is None:
        piece = 1 if job.frame_by_frame else job.batch
        return [g for g in bundle.manifest.graphs if (g.kind, g.batch) == ("predict", piece)][:1]
    names = ("accumulate", "update") if job.frame_by_frame else (learning,)
    return [graph for graph in bundle.manifest.graphs if graph.name in names]
