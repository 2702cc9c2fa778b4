"""Run one method over the stream and measure it: the torch half of `ecotta_rt.bench.worker`.

The order matters, since each figure is read at the one moment when it means what its name says:

    libraries, data opened  -> process_baseline_bytes
    network and method      -> load_peak_bytes, then the peak is reset
    the stream              -> error, ms_per_frame, process_peak_bytes
    afterwards              -> forward_ms_per_frame, activation_bytes, step_peak_bytes: their own cost is in no figure
"""

import gc
import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ecotta_rt.bench.allocator import describe_allocator, keep_freed_memory
from ecotta_rt.bench.child_lines import Tell
from ecotta_rt.bench.job import Job
from ecotta_rt.bench.memory_cage import leave_cage
from ecotta_rt.bench.peers.forward_time import fastest_forward_ms
from ecotta_rt.bench.peers.memory_format import MEMORY_FORMATS, to_memory_format
from ecotta_rt.bench.peers.method import Method
from ecotta_rt.bench.peers.registry import METHODS, build_method
from ecotta_rt.bench.peers.step_options import step_options
from ecotta_rt.bench.peers.warm_libraries import warm_libraries
from ecotta_rt.bench.play import Played, play
from ecotta_rt.bench.recording import Recording, Span, cut_batches
from ecotta_rt.bench.results import Row
from ecotta_rt.errors import UsageError
from ecotta_rt.machine.process_memory import peak_resident_bytes, reset_peak, resident_bytes
from ecotta_rt.prepare.checkpoint import load_network, read_network_file
from ecotta_rt.profile.profiler import profile_step
from ecotta_rt.state import AdaptState

__all__ = ["run_method"]


def run_method(job: Job, tell: Tell) -> Row:
    """Run `job` in this process, which must be a fresh one.

    Args:
        job: What to run.
        tell: Gets `{"parameters": P}` once and `{"frames": n, "wrong": k}` after each batch.

    Returns:
        The row, with `fits` empty.

    Raises:
        EcottaError: The network's file, the method or the frames cannot be used.
    """
    torch.set_num_threads(job.threads)
    torch.manual_seed(job.seed)
    recording = Recording(job.recording)
    warm_libraries()
    gc.collect()
    baseline = resident_bytes()

    method = _build(job, recording, tell)
    load_peak = peak_resident_bytes()
    reset_peak()
    played = _play(method, recording, job, tell)
    process_peak = peak_resident_bytes()

    if job.way_out is not None:  # what follows is not the method's, and must not be its end
        leave_cage(job.way_out)
    keep_freed_memory()
    example = _frames(recording, next(cut_batches(recording.spans[-1], job.batch)), job)
    forward_ms = fastest_forward_ms(load_network(job.network), example)
    memory = profile_step(lambda: method(example))
    return Row(
        method=method.name,
        engine="torch",
        batch=job.batch,
        normalisation=method.normalisation,
        **played.shares(),
        activation_bytes=memory.activation_bytes,
        step_peak_bytes=memory.step_peak_bytes,
        process_baseline_bytes=baseline,
        load_peak_bytes=load_peak,
        process_peak_bytes=process_peak,
        ms_per_frame=played.ms_per_frame,
        forward_ms_per_frame=forward_ms,
        trainable_parameters=method.trainable_parameters,
        session_options=_session_options(job),
    )


def _build(job: Job, recording: Recording, tell: Tell) -> Method:
    classes = read_network_file(job.network).classes
    if recording.labels.max() >= classes:
        raise UsageError(f"the stream has labels up to {recording.labels.max()}, and {job.network} {classes} classes")
    network = load_network(job.network)
    tell({"parameters": sum(parameter.numel() for parameter in network.parameters())})
    return build_method(
        job.method,
        to_memory_format(network, job.memory_format),
        classes=classes,
        seed=job.seed,
        **_needs(job),
    )


def _needs(job: Job) -> dict[str, Any]:
    """What the method takes beside the network."""
    takes = METHODS[job.method].takes
    needs: dict[str, Any] = {}
    if "source_frames" in takes and job.source_recording is not None:
        clean = Recording(job.source_recording)
        needs["source_frames"] = _frames(clean, clean.spans[0], job)
    if "warmed" in takes and job.resource is not None:
        needs["warmed"] = AdaptState.load(Path(job.resource))
        needs["step_options"] = step_options(job.normalisation, job.gradient, hyperparameters=job.hyperparameters)
    if "fine_tuned" in takes and job.resource is not None:
        needs["fine_tuned"] = to_memory_format(load_network(job.resource), job.memory_format)
    return needs


def _play(method: Method, recording: Recording, job: Job, tell: Tell) -> Played:
    return play(
        recording,
        job.batch,
        read=lambda batch: _frames(recording, batch, job),
        answer=lambda frames: method(frames).argmax(1).numpy(),
        tell=tell,
        begin=method.begin_corruption,
    )


def _frames(recording: Recording, batch: Span, job: Job) -> Tensor:
    pixels = torch.from_numpy(recording.frames(batch.start, batch.stop)).permute(0, 3, 1, 2)
    return pixels.to(torch.float32, memory_format=MEMORY_FORMATS[job.memory_format]).div_(255)


def _session_options(job: Job) -> dict[str, str | int | float]:
    options: dict[str, str | int | float] = {"threads": job.threads, "memory_format": job.memory_format}
    entry = METHODS[job.method]
    if "warmed" in entry.takes:
        options["gradient"] = entry.fixed.get("frozen_gradient", job.gradient)
        options |= job.hyperparameters
    return {**options, "allocator": describe_allocator(os.environ)}
