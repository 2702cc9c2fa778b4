"""How a step adapts and how a session runs it: every choice by name, checked once. No torch, no array library."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, get_args

from ecotta_rt.errors import UsageError

__all__ = [
    "ANSWERS",
    "COUPLED",
    "DEFAULT_ANSWER",
    "FIXED",
    "LEARNING",
    "MEMORY_KINDS",
    "NORMALISATIONS",
    "NORMS_STEP",
    "ON_DEVICE",
    "OPTIMISATIONS",
    "STATISTICS_RULES",
    "TENT_STEP",
    "TRACKED",
    "AdaptationOptions",
    "AnswerKind",
    "Learning",
    "Normalisation",
    "SessionOptions",
    "StatisticsRule",
    "StepOptions",
]

Normalisation = Literal["batch", "running", "source"]
NORMALISATIONS: tuple[Normalisation, ...] = get_args(Normalisation)
COUPLED: tuple[Normalisation, ...] = ("batch",)
"""Modes in which the frames of a step share statistics: one frame is too few, and frame by frame is another thing."""
TRACKED: tuple[Normalisation, ...] = ("running",)
"""Modes whose statistics go into a step and come out of it; in the others a graph has them as constants, or none."""
FIXED: tuple[Normalisation, ...] = ("source",)
"""Modes in which a graph has the statistics of the state it was made with as constants."""

Schedule = Literal["one-step", "two-step"]
FrozenGradient = Literal["exact", "constant"]
L1Gradient = Literal["full", "local"]
Optimiser = Literal["sgd", "signum"]

_MANY_PARTS = 4
"""From here on the last part is small; of 2 or 3 it is where the step's peak would move to."""


def _require_choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise UsageError(f"{name}={value!r}: choose one of {', '.join(choices)}")


def _require_range(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high or value == float("inf"):
        raise UsageError(f"{name}={value!r}: must be a finite number between {low} and {high}")


@dataclass(frozen=True)
class StepOptions:
    """Options of one adaptation step; the defaults are the paper's CIFAR protocol.

    Attributes:
        normalisation: Whose statistics the norms use: `batch`, `running` or `source` (see `statistics.py`).
        frozen_gradient: `exact` follows the gradient through the batch statistics of the frozen norms, at the price of
            running most frozen segments a second time; `constant` treats them as constants: faster, an approximation
            in `batch` mode and the same thing in the other two.
        schedule: `one-step` updates once by both losses. `two-step` updates by the L1 losses first, runs a second
            forward, predicts from it and then updates by the entropy.
        l1_gradient: `full` lets each L1 term flow through all groups before it, as differentiating the paper's loss
            does; `local` stops it at its own group.
        l1_weight: lambda, the weight of the summed L1 terms.
        entropy_margin: Frames above `entropy_margin * ln C` nats do not learn.
        optimiser: `sgd`, with momentum; or `signum`, which goes along the sign of SGD's velocity, by `lr` in every
            parameter: much as Adam does, without Adam's second vector of state. Bernstein et al. 2018, arXiv
            1802.04434, algorithm 2.
        lr: Step size of the optimiser.
        lr_batch: The number of frames that `lr` is meant for: a step of n < `lr_batch` frames goes lr * n / `lr_batch`.
            None: `lr` as it is. A single frame's gradient is as long as a batch's and there are 64 times as many of
            them: with the paper's 5e-3 (for 64) a ResNet-20, hardly warmed up, collapsed within 50 frames here.
            Source of the rule: Goyal et al. 2017, arXiv 1706.02677, section 2.1.
        sgd_momentum: Momentum of SGD, in [0, 1).
        statistics_momentum: u of `running` mode, in [0, 1]; 0 holds the statistics. Each frame moves them, once
            its batch has been answered.
        frame_by_frame: Accumulate gradients one frame at a time: one frame's memory, whatever the batch. Needs
            statistics that do not couple frames, so not `batch`.
        recompute_meta: Compute the meta convolutions again in the backward instead of keeping their outputs.
        segment_cells: With an `exact` frozen gradient, how many cells (residual blocks) are recomputed at a time.
        keep_parts: With an `exact` frozen gradient through batch statistics, how many of the last parts keep what their
            norms read instead of being computed again. None: the last one, where there are 4 or more. Its feature maps
            are the smallest, and the backward is done with it first: WRN-40-2 in 4 parts with 64 frames keeps 15 MiB
            more (26 in a graph, whose masks are bytes), and its peak, which comes later, does not move.
    """

    normalisation: Normalisation = "batch"
    frozen_gradient: FrozenGradient = "exact"
    schedule: Schedule = "one-step"
    l1_gradient: L1Gradient = "full"
    l1_weight: float = 0.5
    entropy_margin: float = 0.4
    optimiser: Optimiser = "sgd"
    lr: float = 5e-3
    lr_batch: int | None = None
    sgd_momentum: float = 0.9
    statistics_momentum: float = 0.01
    frame_by_frame: bool = False
    recompute_meta: bool = True
    segment_cells: int = 3
    keep_parts: int | None = None

    def __post_init__(self) -> None:
        _require_choice("normalisation", self.normalisation, get_args(Normalisation))
        _require_choice("frozen_gradient", self.frozen_gradient, get_args(FrozenGradient))
        _require_choice("schedule", self.schedule, get_args(Schedule))
        _require_choice("l1_gradient", self.l1_gradient, get_args(L1Gradient))
        _require_choice("optimiser", self.optimiser, get_args(Optimiser))
        _require_range("l1_weight", self.l1_weight, 0.0, float("inf"))
        _require_range("entropy_margin", self.entropy_margin, 0.0, 1.0)
        _require_range("lr", self.lr, 0.0, float("inf"))
        if self.lr_batch is not None:
            _require_range("lr_batch", self.lr_batch, 1, float("inf"))
        _require_range("sgd_momentum", self.sgd_momentum, 0.0, 1.0)
        if self.sgd_momentum == 1.0:
            raise UsageError("sgd_momentum=1.0: such a velocity never fades; choose less than 1, for example 0.9")
        _require_range("statistics_momentum", self.statistics_momentum, 0.0, 1.0)
        _require_range("segment_cells", self.segment_cells, 1, float("inf"))
        if self.keep_parts is not None:
            _require_range("keep_parts", self.keep_parts, 0, float("inf"))
        if self.frame_by_frame and self.normalisation in COUPLED:
            raise UsageError(
                f"frame_by_frame with normalisation {self.normalisation!r}: batch statistics couple the frames of a "
                "batch; choose normalisation 'running' or 'source'"
            )

    def kept_parts(self, parts: int) -> int:
        """`keep_parts` for a network that is cut into so many."""
        if self.keep_parts is None:
            return int(parts >= _MANY_PARTS)
        return min(self.keep_parts, parts)


ON_DEVICE = StepOptions(normalisation="running", lr_batch=64)
"""How a bundle adapts unless asked otherwise: the stream's statistics, and the paper's step size for 64 frames."""

NORMS_STEP = replace(ON_DEVICE, optimiser="signum", lr=1e-3, entropy_margin=1.0, l1_weight=0.0)
"""How a bundle adapts in which the network's own norms learn, too: towards certain answers from every frame, and held
by nothing. For networks that were not warmed up: a warm-up leaves little to learn."""

TENT_STEP = StepOptions(normalisation="running", lr=2.5e-4, lr_batch=64)
"""How a bundle with TENT adapts: the authors' step size and momentum for ImageNet, SGD (Wang et al. 2021, arXiv
2006.10726, section 4)."""

StatisticsRule = Literal["plain", "de-classed"]
STATISTICS_RULES: tuple[StatisticsRule, ...] = get_args(StatisticsRule)
"""How statistics follow the frames:

    plain        towards each frame's own moments, whatever it shows
    de-classed   towards what is left of them when its class is taken out: needs a table, made at warm-up
"""

Learning = Literal["off", "auto", "on"]
LEARNING: tuple[Learning, ...] = get_args(Learning)
"""When gradients are learned from: never; where it is measured to pay; from each batch that is due."""

AnswerKind = Literal["filtered", "unfiltered"]
ANSWERS: tuple[AnswerKind, ...] = get_args(AnswerKind)
"""Which answer is meant where one is: the network's own, or what the filter makes of it and of the frames before."""

DEFAULT_ANSWER: AnswerKind = "filtered"

_MOST_PLACES = 256
_MOST_WHOLE = 1 << 32  # far more than any option may be; float() fails on one of some hundred digits


@dataclass(frozen=True)
class AdaptationOptions:
    """How a runtime follows its stream without gradients, and when it learns by them.

    Attributes:
        statistics: One of `STATISTICS_RULES`.
        momentum: u, how far one frame moves the statistics, in [0, 1]; after a change of surroundings more.
        leak: How far each frame pulls them back to the source's values, in [0, 1].
        filter_rate: How fast the filter learns for how long a class stays, in [0, 1].
        most_trust: The most that the filter trusts in the class staying, in [0, 1). Above 0.8 it can lock in: errors
            confirm themselves.
        answer: Which of `ANSWERS` is `labels` and `probabilities` of a `Prediction`; it has both.
        views: 2: average the answers to a frame and to its mirror image. Only where mirroring keeps the class.
        learning: One of `LEARNING`.
        places: How many places' statistics are remembered, to be recalled when the stream returns; 0: none.

    Raises:
        UsageError: A word that is no choice, or a number out of its range.
    """

    statistics: StatisticsRule = "de-classed"
    momentum: float = 0.01
    leak: float = 0.002
    filter_rate: float = 0.1
    most_trust: float = 0.8
    answer: AnswerKind = DEFAULT_ANSWER
    views: int = 1
    learning: Learning = "off"
    places: int = 8

    def __post_init__(self) -> None:
        _require_choice("statistics", self.statistics, STATISTICS_RULES)
        for name in ("momentum", "leak", "filter_rate"):
            _require_range(name, getattr(self, name), 0.0, 1.0)
        _require_range("most_trust", self.most_trust, 0.0, 1.0)
        if self.most_trust == 1.0:
            raise UsageError("most_trust=1.0: the filter would never leave a class; choose less than 1, such as 0.8")
        _require_choice("answer", self.answer, ANSWERS)
        _require_choice("learning", self.learning, LEARNING)
        for name, low, high in (("views", 1, 2), ("places", 0, _MOST_PLACES)):
            _require_range(name, getattr(self, name), low, high)

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "AdaptationOptions":
        """From names and values, as a manifest has them; what is not named has its default.

        Raises:
            UsageError: An unknown name, or a value of another kind or out of its range.
        """
        defaults = {field.name: field.default for field in fields(cls)}
        taken: dict[str, Any] = {}
        for name, value in values.items():
            if name not in defaults:
                raise UsageError(f"{name}={value!r} is no option of an adaptation: known are {', '.join(defaults)}")
            kind = type(defaults[name])
            if type(value) is not kind and not (kind is float and type(value) is int):
                raise UsageError(f"{name}={value!r}: expected a value of the kind of {defaults[name]!r}")
            if type(value) is int and abs(value) > _MOST_WHOLE:
                raise UsageError(f"{name}: a whole number of {value.bit_length()} bits; none can be so large")
            taken[name] = kind(value)
        return cls(**taken)


OPTIMISATIONS = ("all", "extended")
"""What onnxruntime does to a graph at load: `all` also reorders weights for the processor's fastest kernels, which
costs a copy of them; `extended` runs them where they are mapped."""

MEMORY_KINDS = ("arena", "returning")
"""Where tensors live: in an arena that keeps what it has once had, or each given back to the system when it dies. The
second is slower by the page faults, and for large batches smaller by the arena's holes."""

_MOST_THREADS = 1024  # onnxruntime starts what it is asked for


@dataclass(frozen=True)
class SessionOptions:
    """How a graph is run.

    Attributes:
        threads: Threads of onnxruntime within one operator.
        optimisation: One of `OPTIMISATIONS`.
        memory: One of `MEMORY_KINDS`.
        ceiling_bytes: What the tensors of all sessions of this process may take together, if they live in the arena.
            The first session sets it for good.
    """

    threads: int = 1
    optimisation: str = "all"
    memory: str = "arena"
    ceiling_bytes: int | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.threads <= _MOST_THREADS:
            raise UsageError(f"threads={self.threads}: give a number from 1 to {_MOST_THREADS}")
        _require_choice("optimisation", self.optimisation, OPTIMISATIONS)
        _require_choice("memory", self.memory, MEMORY_KINDS)

    def as_json(self) -> dict[str, str | int]:
        """For a record of a measurement."""
        return {"threads": self.threads, "optimisation": self.optimisation, "memory": self.memory}
