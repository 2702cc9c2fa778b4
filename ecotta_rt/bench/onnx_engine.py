"""The onnx engine of a measured process: EcoTTA's step or prediction from a bundle, or inference alone.

Nothing here or below imports torch. The runtime is imported when a step is opened: it is a part of what is measured.
"""

import math
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from ecotta_rt.bench.case import Case
from ecotta_rt.bench.peers import METHODS
from ecotta_rt.errors import UsageError
from ecotta_rt.options import SessionOptions

__all__ = ["begin", "forward_ms", "open_step", "to_floats"]

Frames = NDArray[np.uint8] | NDArray[np.float32]  # [N, H, W, 3], or [N, 3, H, W] in [0, 1]


def begin(case: Case) -> None:
    """Keep onnxruntime quiet."""
    ort.set_default_logger_severity(3)


def open_step(case: Case, frames: NDArray[np.uint8]) -> "_OnnxInference | _FromBundle":
    """Load what `case` asks for.

    Args:
        case: With the files it needs.
        frames: A batch to try session options on, where it is timed.

    Raises:
        UsageError: The method cannot run in onnxruntime, or the case lacks its files.
        InputFileError: A file cannot be used.
    """
    graph = METHODS[case.method].graph
    if graph == "forward" and case.forward is not None:
        return _OnnxInference(case, Path(case.forward), frames)
    if graph is None or case.bundle is None:
        raise UsageError(f"{case.method} cannot run in onnxruntime without a bundle of its graphs")
    return _FromBundle(case, case.bundle, learns=graph == "step")


def forward_ms(case: Case, frames: Frames) -> tuple[float, int]:
    """Milliseconds a frame of the fastest inference alone, and the parameters of the network."""
    from ecotta_rt.bench.inference_session import fastest_forward

    if case.forward is None:
        raise UsageError(f"{case.method}: the case names no inference-only graph to compare with")
    forward, _, milliseconds = fastest_forward(Path(case.forward), case.threads, to_floats(frames))
    return milliseconds, forward.parameters


def to_floats(frames: Frames) -> NDArray[np.float32]:
    """uint8 `[N, H, W, 3]` to float32 `[N, 3, H, W]` in [0, 1]."""
    return np.ascontiguousarray(frames.transpose(0, 3, 1, 2)).astype(np.float32) / np.float32(255)


class _OnnxStep:
    """What both kinds of step share; a `Step` of the worker.

    Where it is timed it gets floats, as torch's steps do; else pixels, as from a camera.
    """

    parameters = None
    teach = None
    normalisation: str
    session_options: dict[str, str | int | float]
    _memory: tuple[int, int]  # as planned when the graph was made: nothing measures it here

    def __init__(self, case: Case) -> None:
        self.name = case.method
        self._timed = case.timed
        self._options = SessionOptions(case.threads, case.optimisation, case.memory_kind)

    def prepare(self, frames: NDArray[np.uint8]) -> Frames:
        return to_floats(frames) if self._timed else frames

    def begin_corruption(self, corruption: str) -> None:
        return

    def memory(self, frames: Frames) -> tuple[int, int]:
        return self._memory


class _OnnxInference(_OnnxStep):
    """The source network as it is: as a method with the options of the others, as the denominator at its fastest."""

    normalisation = "source"
    trainable_parameters = 0

    def __init__(self, case: Case, path: Path, frames: NDArray[np.uint8]) -> None:
        from ecotta_rt.bench.inference_session import fastest_forward, frugal_forward

        super().__init__(case)
        if case.timed:
            self._forward, options, _ = fastest_forward(path, case.threads, to_floats(frames))
            self.session_options = {**options}
        else:
            self._forward = frugal_forward(path, self._options, case.batch)
            self.session_options = {**self._options.as_json(), "frame_by_frame": _yes_or_no(case.frame_by_frame)}
        self.classes = self._forward.classes
        self._memory = (0, self._forward.step_peak_bytes)

    def __call__(self, frames: Frames) -> NDArray[np.float32]:
        return self._forward(frames)

    def labels(self, logits: NDArray[np.float32]) -> NDArray[np.int64]:
        labels: NDArray[np.int64] = logits.argmax(axis=1)
        return labels


class _FromBundle(_OnnxStep):
    """A runtime that learns, or only predicts."""

    def __init__(self, case: Case, path: str, *, learns: bool) -> None:
        from ecotta_rt.bundle import read_bundle
        from ecotta_rt.runtime.engine import Runtime

        super().__init__(case)
        bundle = read_bundle(path)
        manifest = bundle.manifest
        self._runtime = Runtime(
            bundle,
            batch=case.batch,
            frame_by_frame=case.frame_by_frame,
            fast=case.fast,
            adapt=learns,
            # Who runs a bundle by its own rule leaves it the choice, where nobody has asked for two.
            views=None if METHODS[case.method].follows and case.views == 1 else case.views,
            options=self._options,
        )
        self._answer = self._runtime if learns else self._runtime.predict
        graphs = _graphs(manifest.graphs, self._runtime.graph, case)
        self.normalisation = manifest.normalisation
        self.classes = len(manifest.classes)
        self.trainable_parameters = sum(math.prod(a.shape) for a in manifest.layout.parameters) if learns else 0
        activations = max(graph.activation_bytes for graph in graphs) if learns else 0
        self._memory = (activations, max(graph.step_peak_bytes for graph in graphs))
        self.session_options = {**self._options.as_json(), "graph": ", ".join(graph.name for graph in graphs)}
        if self._runtime.options.views != 1:
            self.session_options["views"] = self._runtime.options.views
        if learns:
            self.session_options["gradient"] = str(manifest.options.get("frozen_gradient", ""))
        if not case.timed:
            self.session_options["frame_by_frame"] = _yes_or_no(case.frame_by_frame)

    def __call__(self, frames: Frames) -> Any:
        return self._answer(frames)

    def labels(self, prediction: Any) -> NDArray[np.int64]:
        labels: NDArray[np.int64] = prediction.labels
        return labels

    def answers(self, prediction: Any) -> dict[str, NDArray[np.int64]]:
        """The network's own answer; and the filter's, where there is one."""
        own, filtered = prediction.unfiltered, prediction.filtered
        answers = {"unfiltered": own.argmax(axis=1)}
        return answers if filtered is own else answers | {"filtered": filtered.argmax(axis=1)}


def _graphs(graphs: tuple[Any, ...], learning: str | None, case: Case) -> list[Any]:
    """The graphs that a step runs."""
    if learning is None:
        piece = 1 if case.frame_by_frame else case.batch
        answering = [graph for graph in graphs if graph.kind in ("predict", "observe") and graph.batch == piece]
        return sorted(answering, key=lambda graph: graph.kind)[:1]  # `observe`, where there is one
    names = ("accumulate", "update") if case.frame_by_frame else (learning,)
    return [graph for graph in graphs if graph.name in names]


def _yes_or_no(true: bool) -> str:
    return "yes" if true else "no"
