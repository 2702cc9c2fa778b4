"""The torch engine: holds a state, and takes it one step further for each batch of frames.

It runs the very step that is exported for the device, so it is the reference for it; and it is what the benchmark
measures as EcoTTA.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from ecotta_rt.adapt.moving import Moving
from ecotta_rt.bundle.layout import StateLayout
from ecotta_rt.errors import BadFrames, UsageError
from ecotta_rt.method.base import Method
from ecotta_rt.method.state import StepState, initial_state, to_adapt_state, to_step_state
from ecotta_rt.method.step import Outcome, Step
from ecotta_rt.options import COUPLED, StepOptions
from ecotta_rt.state import AdaptState

__all__ = ["TorchEngine"]


class TorchEngine:
    """Adapts `network` to the frames it is given.

    Args:
        network: From `attach`, or another method; what learns starts from its present values.
        options: How to adapt.
        state: Start from this state instead, usually the warmed-up one.

    Raises:
        UsageError: A network of one class: its entropy is always zero and teaches nothing. Or one without classes: its
            output is no row of logits a frame.
        InputFileError: `state` belongs to another network.
    """

    def __init__(self, network: Method, options: StepOptions | None = None, state: AdaptState | None = None) -> None:
        self.options = options or StepOptions()
        self.network = network
        self._frame_shape = network.frame_shape()
        _require_classes(network)
        self._digest = network.digest()
        self._step = Step(network, self.options)
        self._initial = initial_state(network) if state is None else to_step_state(network, state)
        self._state = self._initial
        layout = StateLayout.of(self.state, network.held)
        arrays = [(array.name, array.count) for array in layout.statistics]
        self._moving = Moving(arrays, self.options.statistics_momentum, network.momenta)

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
        outcome = outcome._replace(state=self._followed(outcome.state, outcome.seen))
        self._state = outcome.state
        return outcome

    def __call__(self, frames: Tensor) -> Tensor:
        """`step`, logits only: float32 `[N, C]`."""
        return self.step(frames).logits

    def predict(self, frames: Tensor) -> Tensor:
        """Logits without learning; in `running` mode the statistics still follow the stream."""
        self._require_usable(frames)
        if not self._step.ports.observes:
            return self._step.predict(self._state, frames)
        logits, seen = self._step.observe(self._state, frames)
        self._state = self._followed(self._state, seen)
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

    def _followed(self, state: StepState, seen: Tensor | None) -> StepState:
        if seen is None:
            return state
        after = torch.empty_like(state.vector("statistics"))
        self._moving(state.vector("statistics").numpy(), seen.numpy(), after.numpy())
        return state.with_vectors(statistics=after)

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
        if self.options.normalisation in COUPLED and frames.shape[0] == 1:
            raise BadFrames(
                f"one frame with normalisation {self.options.normalisation!r}: its statistics say nothing; choose "
                "'running' for single frames"
            )
        if not bool(torch.isfinite(frames).all()):
            raise BadFrames(
                f"{int((~torch.isfinite(frames)).sum())} values are NaN or infinite; the state was left as it was"
            )


def _require_classes(method: Method) -> None:
    logits = method.output_shape()
    if len(logits) != 1:
        raise UsageError(f"the network gives [N, {_by_sides(logits)}]: adaptation needs logits [N, classes]")
    if logits[0] < 2:
        raise UsageError("the network has 1 class: entropy is always zero there, nothing can be learned from it")


def _by_sides(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))
