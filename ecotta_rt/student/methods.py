"""The methods of progressive distillation as values: whose teachers, which targets in which order, which schedule.

Sources: arXiv 2005.07839, 2101.07308 and 2007.07077, see `ecotta_rt.student.progressive`, which is their one loop.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

import torch
from torch import Tensor

from ecotta_rt.errors import UsageError
from ecotta_rt.student.alignment import ALIGNMENTS
from ecotta_rt.student.training import Moment

__all__ = ["METHODS", "DistilOptions", "Method", "Progression", "lessons", "teachers_needed"]


@dataclass(frozen=True)
class Method:
    """What one method of progressive distillation is, and no other.

    Attributes:
        teachers: None; one for all targets; or one for each.
        targets: Not used; each in a lesson of its own, in their order; or all mixed into each of as many lessons.
        title: What it is, in a line.
    """

    teachers: Literal["none", "one", "each"]
    targets: Literal["none", "alternating", "blended"]
    title: str


METHODS: Mapping[str, Method] = MappingProxyType(
    {
        "source-only": Method("none", "none", "cross-entropy on the source alone"),
        "adapted": Method("none", "blended", "cross-entropy and alignment, without a teacher (DANN and others)"),
        "kd-stda": Method("one", "blended", "one teacher, one target (2005.07839)"),
        "kd-mtda": Method("one", "blended", "one teacher over all targets (2101.07308)"),
        "mt-mtda": Method("each", "alternating", "a teacher a target, in turn within each mini-batch (2007.07077)"),
    }
)
"""By name; the first two are the peers of the others."""


@dataclass(frozen=True)
class Progression:
    """How the weight beta of the student's loss grows, and 1 - beta of the teacher's falls.

    Attributes:
        start: In the first epoch.
        end: Where it arrives after the last: beta_e = start exp(e ln(end / start) / epochs), e from 0.
    """

    start: float = 0.1
    end: float = 0.9

    def __post_init__(self) -> None:
        if not 0 < self.start <= self.end <= 1:
            raise UsageError(f"beta from {self.start} to {self.end}: expected 0 < start <= end <= 1")

    def at(self, moment: Moment) -> float:
        """Beta; the same within an epoch."""
        return self.start * math.exp(moment.epoch * math.log(self.end / self.start) / moment.epochs)


@dataclass(frozen=True)
class DistilOptions:
    """Options of `distil`.

    Attributes:
        method: One of `METHODS`.
        beta: Schedule of the student's weight.
        alignment: One of `ALIGNMENTS`, or `none`.
        gamma: Weight of the alignment.
        temperature: T; 20 in the papers' code, with which small students learn less of the source than with 1
            (docs/results-student.md).
        alpha: Share of KD in the student's loss on the source.
        kl: `forward`, of teacher to student, the usual one; `reverse`, as in the public code.
        consistency: Align the student's own domains too, with weight alpha.
        teacher_learns: Off: the teacher stays as it is.
        teacher_lr: Share of the step size that teachers have.
    """

    method: str = "kd-stda"
    beta: Progression = field(default_factory=Progression)
    alignment: str = "dann"
    gamma: float = 0.5
    temperature: float = 1.0
    alpha: float = 0.3
    kl: Literal["forward", "reverse"] = "forward"
    consistency: bool = False
    teacher_learns: bool = True
    teacher_lr: float = 1.0

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise UsageError(f"unknown method {self.method!r}; known: {', '.join(METHODS)}")
        if self.alignment not in (*ALIGNMENTS, "none"):
            raise UsageError(f"unknown alignment {self.alignment!r}; known: {', '.join(ALIGNMENTS)}, none")
        if not (0 <= self.gamma < math.inf and 0 < self.temperature < math.inf and 0 <= self.alpha <= 1):
            raise UsageError(
                f"gamma={self.gamma}, temperature={self.temperature}, alpha={self.alpha}: expected gamma >= 0, "
                "temperature > 0, alpha in [0, 1]"
            )
        if self.kl not in ("forward", "reverse"):
            raise UsageError(f"kl={self.kl!r}: choose forward or reverse")
        if not 0 < self.teacher_lr <= 100:
            raise UsageError(f"teacher_lr={self.teacher_lr}: a share of the step size, above 0")


def teachers_needed(method: str, targets: int) -> int:
    """How many teachers a method takes for so many targets."""
    return {"none": 0, "one": 1, "each": targets}[METHODS[method].teachers]


def lessons(method: Method, targets: Sequence[Tensor]) -> Iterator[tuple[int, Tensor | None]]:
    """What a mini-batch is made of: which teacher, and frames of the target, as many as of each domain.

    Blended lessons hold every k-th frame of all targets, so that each is a fair mixture; there are as many of them as
    of alternating ones, and a student takes as many steps.
    """
    if method.targets == "none":
        yield 0, None
    elif method.targets == "alternating":
        yield from enumerate(targets)
    else:
        together = torch.stack(tuple(targets), 1).flatten(0, 1)
        size = len(together) // len(targets)
        for place in range(len(targets)):
            yield 0, together[place * size : (place + 1) * size]
