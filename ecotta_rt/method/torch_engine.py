"""The torch engine: holds a state, and takes it one step further for each batch of frames.

It runs the very step that is exported for the device, so it is the reference for it; and it is what the benchmark
measures as EcoTTA.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ecotta_rt.errors import BadFrames, InputFileError, UsageError
from ecotta_rt.method.attach import AdaptableNetwork
from ecotta_rt.method.cut.tracing import shape_of
from ecotta_rt.method.step import Outcome, Step, StepState
from ecotta_rt.options import StepOptions
from ecotta_rt.state import AdaptState

__all__ = ["TorchEngine", "frame_shape", "initial_state", "to_adapt_state", "to_step_state"]


class TorchEngine:
    """Adapts `network` to the frames it is given.

    Args:
        network: From `attach`; frozen weights are read from it, its groups' present parameters are the start.
        options: How to adapt.
        state: Start from this state instead, usually the warmed-up one.

    Raises:
        UsageError: A network of one class: its entropy is always zero and teaches nothing. Or one without classes: its
            output is no row of logits a frame.
        InputFileError: `state` belongs to another network.
    """

    def __init__(
        self, network: AdaptableNetwork, options: StepOptions | None = None, state: AdaptState | None = None
    ) -> None:
        self.options = options or StepOptions()
        self.network = network
        self._frame_shape = frame_shape(network)
        _require_classes(network)
        self._digest = network.digest()
        self._step = Step(network, self.options)
        self._initial = initial_state(network) if state is None else to_step_state(network, state)
        self._state = self._initial

    @property
    def trainable_parameters(self) -> int:
        """How many numbers learn."""
        return sum(p.numel() for p in self._state.parameters.values())

    def step(self, frames: Tensor) -> Outcome:
        """Answer the frames, then learn from them.

        Args:
            frames: float32 `[N, C, H, W]` in [0, 1].

        Returns:
            Logits from the forward before the entropy update, the report, and the state now held.

        Raises:
            BadFrames: Wrong dtype, another size than the network was cut for, NaN or infinity, or a single frame under
                `batch` normalisation.
        """
        self._require_usable(frames)
        outcome = self._step(self._state, frames)
        self._state = outcome.state
        return outcome

    def __call__(self, frames: Tensor) -> Tensor:
        """`step`, logits only: float32 `[N, C]`."""
        return self.step(frames).logits

    def predict(self, frames: Tensor) -> Tensor:
        """Logits without learning; in `running` mode the statistics still follow the stream."""
        self._require_usable(frames)
        logits, statistics = self._step.predict(self._state, frames)
        self._state = self._state._replace(statistics=statistics)
        return logits

    def reset(self) -> None:
        """Back to the state at construction."""
        self._state = self._initial

    @property
    def state(self) -> AdaptState:
        """The present state as a value."""
        return to_adapt_state(self._state, self._digest)

    def restore(self, state: AdaptState) -> None:
        """Continue from `state`.

        Raises:
            InputFileError: It belongs to another network.
        """
        self._state = to_step_state(self.network, state, self._digest)

    def _require_usable(self, frames: Tensor) -> None:
        if not isinstance(frames, Tensor):
            raise BadFrames(f"frames are a {type(frames).__name__}: expected a float32 tensor [N, C, H, W]")
        if frames.dim() != 4 or frames.dtype != torch.float32 or frames.shape[0] == 0:
            raise BadFrames(f"frames are {frames.dtype} {list(frames.shape)}: expected float32 [N, C, H, W], N >= 1")
        if tuple(frames.shape[1:]) != self._frame_shape:
            raise BadFrames(
                f"frames are {_by_sides(frames.shape[1:])}, the network was cut for {_by_sides(self._frame_shape)} "
                "(channels x height x width): resize them, or partition with example frames of their size"
            )
        if self.options.normalisation == "batch" and frames.shape[0] == 1:
            raise BadFrames(
                "one frame with normalisation 'batch': its statistics say nothing; choose 'running' for single frames"
            )
        if not bool(torch.isfinite(frames).all()):
            raise BadFrames(
                f"{int((~torch.isfinite(frames)).sum())} values are NaN or infinite; the state was left as it was"
            )


def frame_shape(network: AdaptableNetwork) -> tuple[int, ...]:
    """(C, H, W) of the frames that the network was cut for."""
    entry = next(node for node in network.stem.graph.nodes if node.op == "placeholder")
    return shape_of(entry) or ()


def _require_classes(network: AdaptableNetwork) -> None:
    logits = shape_of(network.head.graph.output_node().all_input_nodes[0]) or ()
    if len(logits) != 1:
        raise UsageError(f"the network gives [N, {_by_sides(logits)}]: adaptation needs logits [N, classes]")
    if logits[0] < 2:
        raise UsageError("the network has 1 class: entropy is always zero there, nothing can be learned from it")


def _by_sides(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))


def initial_state(network: AdaptableNetwork) -> StepState:
    """The network's own parameters and statistics, no momentum."""
    parameters = network.group_parameters()
    momentum = {name: torch.zeros_like(p) for name, p in parameters.items()}
    return StepState({n: p.clone() for n, p in parameters.items()}, momentum, network.source_statistics())


def to_adapt_state(state: StepState, network_digest: str) -> AdaptState:
    """Copy a step's tensors into a light value without torch."""
    statistics = {}
    for name, (mean, variance) in state.statistics.items():
        statistics[f"{name}.mean"], statistics[f"{name}.variance"] = _array(mean), _array(variance)
    return AdaptState(
        {n: _array(p) for n, p in state.parameters.items()},
        {n: _array(m) for n, m in state.momentum.items()},
        statistics,
        network_digest,
    )


def to_step_state(network: AdaptableNetwork, state: AdaptState, network_digest: str | None = None) -> StepState:
    """Copy a saved state back into tensors, after checking that it fits `network`.

    Raises:
        InputFileError: Made for another network, or with missing, unexpected or misshapen entries.
    """
    digest = network_digest or network.digest()
    if state.network_digest != digest:
        raise InputFileError(
            f"this state belongs to network {state.network_digest[:12]}, not to {digest[:12]}: "
            "it was made from other weights or another cut; warm up again, or take the state beside the network"
        )
    fresh = initial_state(network)
    expected = to_adapt_state(fresh, digest)
    for section in ("parameters", "momentum", "statistics"):
        _require_same_shapes(section, getattr(expected, section), getattr(state, section))
    statistics = state.statistics
    return StepState(
        {n: _tensor(state.parameters[n]) for n in fresh.parameters},
        {n: _tensor(state.momentum[n]) for n in fresh.momentum},
        {n: (_tensor(statistics[f"{n}.mean"]), _tensor(statistics[f"{n}.variance"])) for n in fresh.statistics},
    )


def _require_same_shapes(section: str, expected: object, found: object) -> None:
    assert isinstance(expected, dict) and isinstance(found, dict)
    missing, extra = sorted(expected.keys() - found.keys()), sorted(found.keys() - expected.keys())
    misshapen = [n for n in expected.keys() & found.keys() if expected[n].shape != found[n].shape]
    if missing or extra or misshapen:
        raise InputFileError(
            f"{section} of this state do not fit: "
            f"missing {missing[:3]}, unexpected {extra[:3]}, misshapen {misshapen[:3]}"
        )


def _tensor(array: NDArray[np.float32]) -> Tensor:
    return torch.from_numpy(np.array(array))  # a copy: a state is a value


def _array(tensor: Tensor) -> NDArray[np.float32]:
    array: NDArray[np.float32] = tensor.detach().contiguous().numpy().copy()
    return array
