"""Run the inference-only graph of the source network: as a method of its own, and as the denominator of all others.

As a method it gets the session options that the others get. As the denominator it gets the fastest: a slow one would
flatter every method, so the sessions that may win are all tried.
"""

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from ecotta_rt.errors import InputFileError
from ecotta_rt.options import SessionOptions
from ecotta_rt.session.opening import session_settings

__all__ = ["Forward", "fastest_forward", "frugal_forward"]

Floats = NDArray[np.float32]

_REPETITIONS = 3
_LEAST_S = 0.1  # a short pass is repeated for so long
_MOST_REPETITIONS = 50


class Forward:
    """One session and its buffers.

    Args:
        path: From `ecotta_rt.bench.peers.forward_graph`.
        settings: onnxruntime's session options.

    Attributes:
        batch: Frames a run.
        classes: Logits a frame.
        parameters: Parameters of the network.
        step_peak_bytes: Most bytes of tensors alive at any moment, as planned when it was made.
    """

    def __init__(self, path: Path, settings: Any) -> None:
        settings.inter_op_num_threads = 1
        settings.log_severity_level = 3
        try:
            self._session = ort.InferenceSession(
                str(path), settings, providers=["CPUExecutionProvider"], enable_fallback=0
            )
        except Exception as error:  # onnxruntime's errors have no common base
            reason = str(error).strip().splitlines()[0][:300]
            raise InputFileError(f"{path}: onnxruntime {ort.__version__} refuses it: {reason}; delete it") from error
        facts = self._session.get_modelmeta().custom_metadata_map
        self.classes = int(facts["classes"])
        self.parameters = int(facts["parameters"])
        self.step_peak_bytes = int(facts["step_peak_bytes"])
        shape = self._session.get_inputs()[0].shape
        self.batch = int(shape[0])
        self._frames: Floats = np.zeros(shape, np.float32)
        self._logits: Floats = np.zeros((self.batch, self.classes), np.float32)
        self._binding = self._session.io_binding()
        self._binding.bind_ortvalue_input("frames", ort.OrtValue.ortvalue_from_numpy(self._frames))
        self._binding.bind_ortvalue_output("logits", ort.OrtValue.ortvalue_from_numpy(self._logits))

    def __call__(self, frames: NDArray[np.uint8] | Floats) -> Floats:
        """Logits `[N, classes]`, in a buffer that the next call overwrites.

        Args:
            frames: uint8 `[N, H, W, 3]`, or float32 `[N, 3, H, W]` in [0, 1].
        """
        if frames.dtype == np.uint8:
            np.divide(frames.transpose(0, 3, 1, 2), np.float32(255), out=self._frames, dtype=np.float32)
        else:
            self._frames[:] = frames
        self._session.run_with_iobinding(self._binding)
        return self._logits


def frugal_forward(path: Path, options: SessionOptions, frames: int) -> Forward:
    """The graph, of so many frames, with the options that graphs of a bundle get: `ecotta_rt.session.opening`."""
    return Forward(path, session_settings(options, frames))


def fastest_forward(path: Path, threads: int, frames: Floats) -> tuple[Forward, dict[str, str | int], float]:
    """The fastest session on these frames.

    Args:
        path: The graph.
        threads: Threads within one operator.
        frames: float32 `[N, 3, H, W]`.

    Returns:
        The session, what was set for it, and the median of its passes in milliseconds a frame.
    """
    tried = []
    for options in _candidates(threads):
        forward = Forward(path, _fast_settings(options))
        tried.append((_median_s(lambda run=forward: run(frames)), forward, options))  # type: ignore[misc]
    seconds, forward, options = min(tried, key=lambda one: one[0])
    return forward, options, 1e3 * seconds / len(frames)


def _candidates(threads: int) -> list[dict[str, str | int]]:
    # Threads that spin wait for less time; one thread has nobody to wait for.
    spinning = ("on", "off") if threads > 1 else ("off",)
    return [
        {"threads": threads, "optimisation": optimisation, "spinning": spin}
        for optimisation in ("all", "extended")
        for spin in spinning
    ]


def _fast_settings(options: dict[str, str | int]) -> Any:
    settings = ort.SessionOptions()
    settings.intra_op_num_threads = options["threads"]
    if options["optimisation"] == "extended":
        settings.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    settings.add_session_config_entry("session.intra_op.allow_spinning", str(int(options["spinning"] == "on")))
    # Within a run only: whoever runs next must not compete with threads that wait.
    settings.add_session_config_entry("session.force_spinning_stop", "1")
    return settings


def _median_s(run: Callable[[], object]) -> float:
    run()  # warms the caches
    times: list[float] = []
    while len(times) < _REPETITIONS or (sum(times) < _LEAST_S and len(times) < _MOST_REPETITIONS):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return statistics.median(times)
