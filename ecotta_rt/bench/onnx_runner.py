"""Run one method over the stream in onnxruntime and measure it: the half of `ecotta_rt.bench.worker` without torch.

The order matters, since each figure is read at the one moment when it means what its name says:

    numpy, onnxruntime, data opened -> process_baseline_bytes
    sessions and state              -> load_peak_bytes, then the peak is reset
    the stream                      -> error, ms_per_frame, process_peak_bytes
    afterwards                      -> forward_ms_per_frame: its own cost is in no figure
    the bundle's manifest           -> activation_bytes, step_peak_bytes: planned when the graph was made, not measured
"""

import gc
import os
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from ecotta_rt.bench.allocator import describe_allocator, keep_freed_memory
from ecotta_rt.bench.child_lines import Tell
from ecotta_rt.bench.job import Job
from ecotta_rt.bench.memory_cage import leave_cage
from ecotta_rt.bench.play import play
from ecotta_rt.bench.recording import Recording, cut_batches
from ecotta_rt.errors import UsageError
from ecotta_rt.machine.process_memory import peak_resident_bytes, reset_peak, resident_bytes

__all__ = ["run_onnx_method"]


def run_onnx_method(job: Job, tell: Tell) -> dict[str, Any]:
    """Run `job` in this process, which must be a fresh one.

    Args:
        job: What to run; its engine is `onnx`.
        tell: Gets `{"frames": n, "wrong": k}` after each batch, and `{"parameters": P}` at the end.

    Returns:
        The fields of a `Row`, `fits` left out.

    Raises:
        EcottaError: A file, the method or the frames cannot be used.
    """
    ort.set_default_logger_severity(3)
    recording = Recording(job.recording)
    gc.collect()
    baseline = resident_bytes()

    from ecotta_rt.bench.onnx_steps import open_onnx_step  # the runtime is a part of what is measured

    step = open_onnx_step(job)
    if recording.labels.max() >= step.classes:
        raise UsageError(f"the stream has labels up to {recording.labels.max()}, and the graph {step.classes} classes")
    load_peak = peak_resident_bytes()
    reset_peak()
    played = play(
        recording,
        job.batch,
        read=lambda batch: recording.frames(batch.start, batch.stop),
        answer=step,
        tell=tell,
    )
    process_peak = peak_resident_bytes()

    if job.way_out is not None:  # what follows is not the method's, and must not be its end
        leave_cage(job.way_out)
    keep_freed_memory()
    example = next(cut_batches(recording.spans[-1], job.batch))
    forward_ms, parameters = _forward(job, recording.frames(example.start, example.stop))
    tell({"parameters": parameters})
    return {
        "method": job.method,
        "engine": "onnx",
        "batch": job.batch,
        "normalisation": step.normalisation,
        **played.shares(),
        "activation_bytes": step.activation_bytes,
        "step_peak_bytes": step.step_peak_bytes,
        "process_baseline_bytes": baseline,
        "load_peak_bytes": load_peak,
        "process_peak_bytes": process_peak,
        "ms_per_frame": played.ms_per_frame,
        "forward_ms_per_frame": forward_ms,
        "trainable_parameters": step.trainable_parameters,
        "session_options": {
            **step.session_options,
            "frame_by_frame": "yes" if job.frame_by_frame else "no",
            "allocator": describe_allocator(os.environ),
        },
    }


def _forward(job: Job, frames: NDArray[np.uint8]) -> tuple[float, int]:
    """Milliseconds a frame of the fastest inference alone, and the parameters of the network."""
    from ecotta_rt.bench.inference_session import fastest_forward
    from ecotta_rt.bench.onnx_steps import to_floats

    if job.forward is None:
        raise UsageError(f"{job.method}: the job names no inference-only graph to compare with")
    forward, _, forward_ms = fastest_forward(Path(job.forward), job.threads, to_floats(frames))
    return forward_ms, forward.parameters
