"""The torch engine of a measured process: methods as they learn with autograd, in one memory layout."""

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ecotta_rt.bench.adaptation import step_options
from ecotta_rt.bench.case import Case
from ecotta_rt.bench.peers.forward_time import fastest_forward_ms
from ecotta_rt.bench.peers.memory_format import MEMORY_FORMATS, to_memory_format
from ecotta_rt.bench.peers.peer import LabelledPeer
from ecotta_rt.bench.peers.registry import METHODS, build_method
from ecotta_rt.bench.recording import Recording
from ecotta_rt.prepare.checkpoint import load_network, read_network_file
from ecotta_rt.profile.profiler import profile_step
from ecotta_rt.state import AdaptState

__all__ = ["TorchStep", "begin", "forward_ms", "open_step"]

_TRIED_STEPS = 2  # in each layout, after one to warm up


class TorchStep:
    """A method in one memory layout; a `Step` of the worker.

    Args:
        case: Which, and with what.
        memory_format: One of `MEMORY_FORMATS`.
    """

    def __init__(self, case: Case, memory_format: str) -> None:
        self._format = MEMORY_FORMATS[memory_format]
        self.classes = read_network_file(case.network).classes
        network = to_memory_format(load_network(case.network), memory_format)
        self.parameters = sum(parameter.numel() for parameter in network.parameters())
        needs = {**self._needs(case, memory_format), **_step_size(case)}
        self._method = build_method(
            case.method, network, classes=self.classes, seed=case.seed, views=case.views, **needs
        )
        self.name, self.normalisation = self._method.name, self._method.normalisation
        self.trainable_parameters = self._method.trainable_parameters
        self.session_options: dict[str, str | int | float] = {"threads": case.threads, "memory_format": memory_format}
        if case.views != 1:
            self.session_options["views"] = case.views
        if case.learning_rate is not None:
            self.session_options["lr"] = case.learning_rate
        entry = METHODS[case.method]
        if "warmed" in entry.takes and not case.timed:
            self.session_options["gradient"] = entry.fixed.get("frozen_gradient", case.gradient)
            self.session_options |= case.hyperparameters
        self.begin_corruption = self._method.begin_corruption

    def prepare(self, frames: NDArray[np.uint8]) -> Tensor:
        """uint8 `[N, H, W, 3]` to float32 `[N, 3, H, W]` in [0, 1]."""
        pixels = torch.from_numpy(frames).permute(0, 3, 1, 2)
        return pixels.to(torch.float32, memory_format=self._format).div_(255)

    def __call__(self, frames: Tensor) -> Tensor:
        """Predict, then adapt: logits."""
        return self._method(frames)

    @property
    def teach(self) -> Callable[[NDArray[np.int64]], None] | None:
        """The door for labels, of a method that has one."""
        method = self._method
        return (lambda labels: method.teach(torch.from_numpy(labels))) if isinstance(method, LabelledPeer) else None

    def labels(self, logits: Tensor) -> NDArray[np.int64]:
        labels: NDArray[np.int64] = logits.argmax(1).numpy()
        return labels

    def memory(self, frames: Tensor) -> tuple[int, int]:
        """Bytes kept for the backward, and bytes of live tensors, at the worst moment of a step; measured now.

        A method that learns once in so many frames is given so many: one of the calls is the one that learns.
        """
        calls = math.ceil(self._method.update_every / len(frames))

        labels = np.zeros(len(frames), np.int64)  # any will do: memory asks nothing of their values

        def steps() -> None:
            for _ in range(calls):
                self._method(frames)
                if self.teach is not None:
                    self.teach(labels)

        measured = profile_step(steps)
        return measured.activation_bytes, measured.step_peak_bytes

    def _needs(self, case: Case, memory_format: str) -> dict[str, Any]:
        """What the method takes beside the network."""
        takes = METHODS[case.method].takes
        needs: dict[str, Any] = {}
        if "source_frames" in takes and case.source_recording is not None:
            clean = Recording(case.source_recording)
            needs["source_frames"] = self.prepare(clean.frames(*clean.spans[0][1:]))
        if "warmed" in takes and case.resource is not None:
            needs["warmed"] = AdaptState.load(Path(case.resource))
            needs["step_options"] = step_options(
                case.normalisation, case.gradient, hyperparameters=case.hyperparameters
            )
        if "fine_tuned" in takes and case.resource is not None:
            needs["fine_tuned"] = to_memory_format(load_network(case.resource), memory_format)
        if case.timed and case.batch == 1 and case.method in ("tent", "tent-episodic", "cotta"):
            needs["single_frames"] = True
        return needs


def begin(case: Case) -> None:
    """Load now what torch would load later, so that libraries are counted as libraries.

    torch starts its threads, pages in its convolutions and imports 70 MiB of compiler (for the optimisers) at their
    first use. Without this a method that trains would carry that weight, and one that does not would seem to save it.
    Every measured process runs one training step of a toy network, whatever its method.
    """
    torch.set_num_threads(case.threads)
    torch.manual_seed(case.seed)
    if case.timed:
        return
    toy = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 2, 1))
    optimiser = torch.optim.SGD(toy.parameters(), lr=0.1, momentum=0.9)
    toy(torch.rand(4, 3, 32, 32)).log_softmax(1).mean().backward()
    optimiser.step()


def open_step(case: Case, frames: NDArray[np.uint8]) -> TorchStep:
    """The method in the layout of `case`; in its faster one where it is timed: a peer held back proves nothing.

    Args:
        case: Its engine is `torch`.
        frames: A batch to try the layouts on, uint8 `[N, H, W, 3]`.

    Raises:
        EcottaError: A file, the method or the frames cannot be used.
    """
    if not case.timed:
        return TorchStep(case, case.memory_format)
    if case.method == "cotta":  # dozens of forward passes a step: try the layouts on one of them
        memory_format = min(MEMORY_FORMATS, key=lambda name: _seconds(_TorchInference(case, name), frames))
        return TorchStep(case, memory_format)
    steps = {name: TorchStep(case, name) for name in MEMORY_FORMATS}
    fastest = min(steps, key=lambda name: _seconds(steps[name], frames))
    return TorchStep(case, fastest)  # anew: the frames it was tried on have taught it something


def forward_ms(case: Case, frames: Tensor) -> tuple[float, None]:
    """Milliseconds a frame of the fastest inference alone; the parameters of the network are told by the step."""
    return fastest_forward_ms(load_network(case.network), frames), None


class _TorchInference(TorchStep):
    """The source network alone, in one layout."""

    def __init__(self, case: Case, memory_format: str) -> None:
        self._network: nn.Module = to_memory_format(load_network(case.network), memory_format)
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


def _step_size(case: Case) -> dict[str, float]:
    return {} if case.learning_rate is None else {"learning_rate": case.learning_rate}
