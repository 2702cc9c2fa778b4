"""Contestants that run in torch, each in the memory layout that suits it: a peer that is held back proves nothing."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ecotta_rt.bench.job import Job
from ecotta_rt.bench.peers.memory_format import MEMORY_FORMATS, to_memory_format
from ecotta_rt.bench.peers.method import Method
from ecotta_rt.bench.peers.registry import METHODS, build_method
from ecotta_rt.bench.peers.step_options import step_options
from ecotta_rt.errors import UsageError
from ecotta_rt.prepare.checkpoint import load_network, read_network_file
from ecotta_rt.state import AdaptState

__all__ = ["TorchStep", "open_torch_step"]

_TRIED_STEPS = 2  # in each layout, after one to warm up


class TorchStep:
    """A method in one memory layout.

    Args:
        job: Which, and with what.
        memory_format: One of `MEMORY_FORMATS`.

    Attributes:
        normalisation: Statistics its norms use.
        session_options: How it is run.
    """

    def __init__(self, job: Job, memory_format: str) -> None:
        self._method = _build(job, memory_format)
        self._format = MEMORY_FORMATS[memory_format]
        self.normalisation = self._method.normalisation
        self.session_options: dict[str, str | int] = {"threads": job.threads, "memory_format": memory_format}

    def prepare(self, frames: NDArray[np.uint8]) -> Tensor:
        """uint8 `[N, H, W, 3]` to float32 `[N, 3, H, W]` in [0, 1]."""
        pixels = torch.from_numpy(frames).permute(0, 3, 1, 2)
        return pixels.to(torch.float32, memory_format=self._format).div_(255)

    def __call__(self, frames: Tensor) -> Tensor:
        """Predict, then adapt."""
        return self._method(frames)


def open_torch_step(job: Job, frames: NDArray[np.uint8]) -> TorchStep:
    """The method in its faster memory layout.

    Args:
        job: Its engine is `torch`.
        frames: A batch to try the layouts on, uint8 `[N, H, W, 3]`.

    Raises:
        EcottaError: A file, the method or the frames cannot be used.
    """
    torch.set_num_threads(job.threads)
    torch.manual_seed(job.seed)
    if job.method == "cotta":  # dozens of forward passes a step: try the layouts on one of them
        memory_format = min(MEMORY_FORMATS, key=lambda name: _seconds(_Inference(job, name), frames))
        return TorchStep(job, memory_format)
    steps = {name: TorchStep(job, name) for name in MEMORY_FORMATS}
    fastest = min(steps, key=lambda name: _seconds(steps[name], frames))
    return TorchStep(job, fastest)  # anew: the frames it was tried on have taught it something


def _build(job: Job, memory_format: str) -> Method:
    classes = read_network_file(job.network).classes
    entry = METHODS[job.method]
    needs: dict[str, Any] = {}
    if "warmed" in entry.takes:
        if job.resource is None:
            raise UsageError(f"{job.method}: the job names no warmed-up meta groups")
        options = step_options(job.normalisation, job.gradient)
        needs = {"warmed": AdaptState.load(Path(job.resource)), "step_options": options}
    if "fine_tuned" in entry.takes and job.resource is not None:
        needs = {"fine_tuned": to_memory_format(load_network(job.resource), memory_format)}
    if job.batch == 1 and job.method in ("tent", "tent-episodic", "cotta"):
        needs["single_frames"] = True
    network = to_memory_format(load_network(job.network), memory_format)
    return build_method(job.method, network, classes=classes, seed=job.seed, **needs)


class _Inference(TorchStep):
    """The source network alone, in one layout."""

    def __init__(self, job: Job, memory_format: str) -> None:
        self._network: nn.Module = to_memory_format(load_network(job.network), memory_format)
        self._format = MEMORY_FORMATS[memory_format]

    @torch.inference_mode()
    def __call__(self, frames: Tensor) -> Tensor:
        logits: Tensor = self._network(frames)
        return logits


def _seconds(step: TorchStep, frames: NDArray[np.uint8]) -> float:
    """The faster of a few steps."""
    prepared = step.prepare(frames)
    step(prepared)
    times = []
    for _ in range(_TRIED_STEPS):
        start = time.perf_counter()
        step(prepared)
        times.append(time.perf_counter() - start)
    return min(times)
