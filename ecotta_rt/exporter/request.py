"""What a bundle shall hold, as one value, and the graphs that this means."""

from collections.abc import Sequence
from dataclasses import dataclass

from ecotta_rt.bundle import FrameSpec, GraphKind
from ecotta_rt.errors import UsageError
from ecotta_rt.machine.device import DeviceProfile
from ecotta_rt.options import COUPLED, ON_DEVICE, TRACKED, StepOptions

__all__ = ["ExportOptions", "GraphRequest", "requests_for"]

_LEARNING: tuple[GraphKind, ...] = ("step", "accumulate", "update")


@dataclass(frozen=True)
class ExportOptions:
    """A bundle, but for the network and its state.

    Attributes:
        model: Name of the architecture, for people.
        classes: Class names in the order of the logits; empty: they are numbered.
        frame: How a picture becomes a frame of the size that the network was cut for; None: `cover`, uncropped.
        batches: Frames a step, one graph for each.
        step: How the device adapts; `frame_by_frame` adds the graphs for it.
        fast: Add a step graph for each batch size that trades memory for time.
        device: Leave out the graphs that do not fit there.
        learning_only: Leave out the graphs that answer without learning: for a bundle that is measured and thrown away.
            No device can use it when it may not learn.

    Raises:
        UsageError: See `requests_for`.
    """

    model: str
    classes: Sequence[str] = ()
    frame: FrameSpec | None = None
    batches: Sequence[int] = (1,)
    step: StepOptions = ON_DEVICE
    fast: bool = False
    device: DeviceProfile | None = None
    learning_only: bool = False

    def __post_init__(self) -> None:
        self.graphs()  # what cannot be exported is said now, and not behind a warm-up

    def graphs(self) -> "tuple[GraphRequest, ...]":
        """The graphs to make."""
        every = requests_for(self.batches, self.step, self.fast)
        return tuple(graph for graph in every if graph.kind in _LEARNING or not self.learning_only)


@dataclass(frozen=True)
class GraphRequest:
    """One graph to make.

    Attributes:
        name: In the bundle.
        kind: `step`, `predict`, `observe`, `accumulate` or `update`.
        batch: Frames a run.
        fast: Favours time over memory: every other heavy weight is there twice, for the fastest kernels (see
            `passes/keep_weights_once.py`); see also `skip_backward` and `_kept_parts`.
    """

    name: str
    kind: GraphKind
    batch: int
    fast: bool = False


def requests_for(batches: Sequence[int], options: StepOptions, fast: bool = False) -> tuple[GraphRequest, ...]:
    """The graphs of a bundle for these batch sizes.

    Raises:
        UsageError: No batch size, one below 1, one twice, or a single frame in `batch` normalisation.
    """
    if options.frame_by_frame and options.schedule != "one-step":
        raise UsageError(
            "frame_by_frame with schedule 'two-step' cannot be exported: its second forward needs all frames"
        )
    if not batches or min(batches) < 1 or len(set(batches)) < len(batches):
        raise UsageError(f"batches {list(batches)}: give one or more different sizes, each at least 1")
    if options.normalisation in COUPLED and 1 in batches:
        raise UsageError(
            f"batch 1 with normalisation {options.normalisation!r}: one frame's statistics say nothing; choose "
            "'running' for single frames"
        )
    answers: tuple[GraphKind, ...] = ("predict", "observe") if options.normalisation in TRACKED else ("predict",)
    kinds: tuple[GraphKind, ...] = ("step", *answers)
    wanted = [GraphRequest(f"{kind}-{n}", kind, n) for n in batches for kind in kinds]
    if fast:
        wanted += [GraphRequest(f"step-{n}-fast", "step", n, fast=True) for n in batches]
    if options.frame_by_frame:
        wanted += [GraphRequest("accumulate", "accumulate", 1), GraphRequest("update", "update", 1)]
        if 1 not in batches:
            wanted += [GraphRequest(f"{kind}-1", kind, 1) for kind in answers]
    return tuple(wanted)
