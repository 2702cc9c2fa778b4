"""DistillNearest and DistillWeighted: learn from few labels, and from networks that others trained for other tasks.

    L = lambda CE(h(phi(x)), y) + (1 - lambda) sum_s alpha_s CE(softmax teacher_s(x), softmax h_s(phi(x)))

The first term is over labelled pictures, the second over all. h is the student's own classifier; h_s is a linear layer
from what it reads to the classes of source s, whatever those are, and is thrown away afterwards. `DistillNearest` has
one source, `DistillWeighted` all, by `source_weights`. No picture of a source is needed.

Source: Borup, Phoo, Hariharan 2023, Distilling from Similar Tasks for Transfer Learning on a Budget, arXiv 2304.12314,
section 3.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from ecotta_rt.errors import UsageError
from ecotta_rt.prepare.augment import augmented
from ecotta_rt.prepare.snapshot import array_digest, weights_digest
from ecotta_rt.student.batches import check_batch
from ecotta_rt.student.defaults import LABEL_SHARE
from ecotta_rt.student.domains import frames_digest
from ecotta_rt.student.feature_tap import FeatureTap
from ecotta_rt.student.source_networks import SourceNetwork
from ecotta_rt.student.training import Moment, Steps, TrainingOptions, sgd

__all__ = [
    "LEAST_WEIGHT",
    "PartlyLabelled",
    "Teaching",
    "chosen_sources",
    "distillation_loss",
    "source_steps",
]

LEAST_WEIGHT = 0.01
"""A source that weighs less, as a share of the heaviest, would cost a forward pass a step and change nothing."""
_LABELLED_PART = 4
"""Labelled frames a step are this part of the others: the few come round often enough."""


@dataclass(frozen=True, eq=False)
class Teaching:
    """A source and its weight, alpha_s."""

    source: SourceNetwork
    weight: float


@dataclass(frozen=True, eq=False)
class PartlyLabelled:
    """Frames float32 `[B, C, H, W]` in [0, 1], those with labels first, and the labels, int64 `[at most B]`."""

    frames: Tensor
    labels: Tensor


def chosen_sources(sources: Sequence[SourceNetwork], weights: Mapping[str, float]) -> tuple[Teaching, ...]:
    """Those that weigh `LEAST_WEIGHT` of the heaviest or more, weights adjusted to the sum 1; heaviest first.

    Args:
        sources: All, one at least.
        weights: By name, one above 0.
    """
    least = LEAST_WEIGHT * max(weights[one.name] for one in sources)  # of many sources each weighs little
    kept = sorted((one for one in sources if weights[one.name] >= least), key=lambda one: -weights[one.name])
    total = sum(weights[one.name] for one in kept)
    return tuple(Teaching(one, weights[one.name] / total) for one in kept)


def distillation_loss(answers: Sequence[Tensor], logits: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """The sum over sources of alpha_s CE(answer_s, softmax logits_s), a mean over frames.

    Args:
        answers: Of each source, its softmax: float32 `[B, classes_s]`.
        logits: Of the student's head for it, the same shape.
        weights: alpha_s.
    """
    losses = [
        weight * F.cross_entropy(given, wanted) for wanted, given, weight in zip(answers, logits, weights, strict=True)
    ]
    return torch.stack(losses).sum()


def source_steps(
    student: nn.Module,
    sources: Sequence[Teaching],
    labelled: tuple[NDArray[np.uint8], NDArray[np.int64]],
    unlabelled: NDArray[np.uint8],
    options: TrainingOptions,
    label_share: float = LABEL_SHARE,
) -> Steps[PartlyLabelled]:
    """The method as steps for `train`; an epoch is a pass over the pictures without labels.

    Args:
        student: Trained in place; its answers are the target's classes.
        sources: With their weights, sum 1. None: the labels alone teach, in as many steps.
        labelled: Frames uint8 `[N, H, W, C]` and labels int64 `[N]`.
        unlabelled: Frames uint8 `[M, H, W, C]`; more of the labelled kind or the same.
        options: Of the run; `batch` frames without labels a step, and a quarter as many with, or all there are.
        label_share: lambda, in (0, 1]; at 1 the sources are not asked.

    Raises:
        UsageError: A share out of range, frames that differ in size, labels beyond the student's classes, or fewer
            pictures than a batch.
        NetworkError: A student without a classifier.
    """
    frames, labels = labelled
    tap = _checked(student, frames, labels, unlabelled, options.batch, label_share)
    teaching = tuple(sources) if label_share < 1 else ()
    heads = _heads(tap.width, teaching, options.seed)
    student.train()
    optimisers = {"student": sgd(student, options)}
    if teaching:
        optimisers["heads"] = sgd(heads, options)
    identity = {
        "method": "labels alone" if not teaching else ", ".join(_named(one) for one in teaching),
        "label share": f"{label_share:g}",
        "labelled": f"{len(labels)}, {array_digest(labels)}",
        "unlabelled": f"{len(unlabelled)}, {frames_digest(unlabelled)}",
        "student": weights_digest(student)[:12],
    }
    step = _Step(tap, heads, teaching, label_share, optimisers)
    pictures = _Pictures(frames, labels, unlabelled, options, mixed=bool(teaching))
    modules = {"student": student, "heads": heads}
    return Steps(modules, optimisers, pictures.per_epoch, pictures.batches, step, identity)


@dataclass(frozen=True, eq=False)
class _Pictures:
    """Where batches come from; `mixed` ones hold frames without labels, too."""

    frames: NDArray[np.uint8]
    labels: NDArray[np.int64]
    unlabelled: NDArray[np.uint8]
    options: TrainingOptions
    mixed: bool

    @property
    def per_epoch(self) -> int:
        return len(self.unlabelled) // self.options.batch

    def batches(self, generator: torch.Generator) -> Iterator[PartlyLabelled]:
        size, how = self.options.batch, self.options.augmentation
        few = min(max(1, size // _LABELLED_PART), len(self.labels))
        order = torch.randperm(len(self.unlabelled), generator=generator).numpy()
        queue = np.empty(0, np.int64)
        for start in range(0, self.per_epoch * size, size):
            while len(queue) < few:
                queue = np.concatenate([queue, torch.randperm(len(self.labels), generator=generator).numpy()])
            places, queue = queue[:few], queue[few:]
            shown = self.frames[places]
            if self.mixed:
                shown = np.concatenate([shown, self.unlabelled[order[start : start + size]]])
            yield PartlyLabelled(augmented(shown, how, generator), torch.from_numpy(self.labels[places]))


@dataclass(frozen=True, eq=False)
class _Step:
    """One step of the method."""

    student: FeatureTap
    heads: nn.ModuleList
    teaching: tuple[Teaching, ...]
    label_share: float
    optimisers: Mapping[str, torch.optim.Optimizer]

    def __call__(self, batch: PartlyLabelled, moment: Moment) -> Mapping[str, float]:
        found = self.student(batch.frames)
        loss = F.cross_entropy(found.logits[: len(batch.labels)], batch.labels)
        told = {"label loss": loss.item()}
        if self.teaching:
            answers = [one.source.answers(batch.frames) for one in self.teaching]
            given = [head(found.features) for head in self.heads]
            taught = distillation_loss(answers, given, [one.weight for one in self.teaching])
            loss = self.label_share * loss + (1 - self.label_share) * taught
            told["source loss"] = taught.item()
        for optimiser in self.optimisers.values():
            optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        for optimiser in self.optimisers.values():
            optimiser.step()
        return told


def _checked(
    student: nn.Module,
    frames: NDArray[np.uint8],
    labels: NDArray[np.int64],
    unlabelled: NDArray[np.uint8],
    batch: int,
    label_share: float,
) -> FeatureTap:
    if not 0 < label_share <= 1:
        raise UsageError(f"label share {label_share}: lambda lies above 0 and at most at 1, where labels alone teach")
    if frames.shape[1:] != unlabelled.shape[1:]:
        raise UsageError(f"labelled frames {list(frames.shape[1:])}, the others {list(unlabelled.shape[1:])}")
    check_batch(batch, len(unlabelled), "without labels")
    height, width, channels = frames.shape[1:]
    tap = FeatureTap(student, (channels, height, width), trains=True)
    if int(labels.max()) >= tap.classes or int(labels.min()) < 0:
        raise UsageError(f"labels up to {labels.max()} for a student of {tap.classes} classes")
    return tap


def _heads(width: int, teaching: Sequence[Teaching], seed: int) -> nn.ModuleList:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.ModuleList(nn.Linear(width, one.source.classes) for one in teaching)


def _named(one: Teaching) -> str:
    return f"{one.source.name} {one.source.digest[:12]} {one.weight:.4f}"
