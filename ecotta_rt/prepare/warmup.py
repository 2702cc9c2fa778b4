"""Warm the meta groups up on source data, before deployment.

    attach()  ->  warm_up()  ->  measure_statistics()  ->  AdaptState

Labels are classes, or the frozen network's own soft answers (`calibrate.frozen_answers`): from those the groups learn
to answer an augmented picture as the network answers the clean one, which is self-distillation and needs no labels.

`fine_tune` trains *all* weights of a plain network with the same data, augmentation, steps and rates: the control
for how much of EcoTTA's lead is just extra training.

Source:
    Song et al. 2023, EcoTTA, arXiv 2303.01904, section 3.1 (warm-up); rates and augmentation as in the public code.
"""

import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from torch import nn

from ecotta_rt.errors import UsageError
from ecotta_rt.method.attach import momenta_note
from ecotta_rt.method.ecotta import AdaptableNetwork
from ecotta_rt.method.state import initial_state, to_adapt_state
from ecotta_rt.prepare.augment import Augmentation
from ecotta_rt.prepare.calibrate import match_frozen_features, measure_statistics
from ecotta_rt.prepare.epochs import WarmUpCallback, train
from ecotta_rt.prepare.snapshot import RunIdentity, array_digest, weights_digest
from ecotta_rt.state import AdaptState

__all__ = ["WarmUpOptions", "fine_tune", "run_identity", "warm_up"]

_MATCHING_FRAMES = 256
"""For one mean and deviation a channel: enough, and at 224x224 still no more than a gigabyte of features."""

Frames = NDArray[np.uint8]  # [N, H, W, C], mapped from a file where the set is large
Labels = NDArray[np.int64] | NDArray[np.float32]  # classes [N], or soft answers [N, classes]


@dataclass(frozen=True)
class WarmUpOptions:
    """Options of `warm_up` and `fine_tune`.

    Attributes:
        epochs: Passes over the source data.
        batch: Frames a step.
        lr: Peak step size of SGD; reached linearly over the first tenth of the steps.
        momentum: Momentum of SGD.
        decay: Factor on the step size at each milestone.
        milestones: When, as shares of all steps: epochs 3, 6 and 8 of 10.
        augmentation: What is done to the frames, by name and strength.
        matched_start: Set BN_k to the mean and deviation of the part's own output first, so that the network starts as
            the frozen one. Off: torch's usual start, as in the public code.
        statistics_frames: Source frames for the statistics pass at the end; None: all.
        precision: `float32`, or `bfloat16` autocast (about half the time on processors that have it).
        seed: Of the order and the augmentation.
    """

    epochs: int = 10
    batch: int = 64
    lr: float = 0.05
    momentum: float = 0.9
    decay: float = 0.2
    milestones: tuple[float, ...] = (0.3, 0.6, 0.8)
    augmentation: Augmentation = field(default_factory=Augmentation)
    matched_start: bool = True
    statistics_frames: int | None = None
    precision: Literal["float32", "bfloat16"] = "float32"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch < 2:
            raise UsageError(f"epochs={self.epochs}, batch={self.batch}: at least 1 epoch of batches of 2 frames")
        if not 0 < self.lr < math.inf or not 0 <= self.momentum < 1 or not 0 < self.decay <= 1:
            raise UsageError(
                f"lr={self.lr}, momentum={self.momentum}, decay={self.decay}: "
                "expected a finite lr > 0, momentum in [0, 1), decay in (0, 1]"
            )
        if not all(0.0 < share < 1.0 for share in self.milestones):
            raise UsageError(f"milestones={self.milestones}: shares of the run, between 0 and 1; 0.3 is epoch 3 of 10")
        if self.statistics_frames is not None and self.statistics_frames < 2:
            raise UsageError(f"statistics_frames={self.statistics_frames}: at least 2, or None for all")
        if self.precision not in ("float32", "bfloat16"):
            raise UsageError(f"precision={self.precision!r}: choose float32 or bfloat16")


def warm_up(
    network: AdaptableNetwork,
    frames: Frames,
    labels: Labels,
    options: WarmUpOptions | None = None,
    *,
    report: WarmUpCallback | None = None,
    snapshot: Path | None = None,
) -> AdaptState:
    """Train the meta groups by cross-entropy, then measure every norm's statistics with the groups attached.

    Args:
        network: From `attach`; its groups are trained in place, the rest is frozen.
        frames: uint8 `[N, H, W, C]`, source data.
        labels: int64 `[N]`; or float32 `[N, classes]`, a probability for each class.
        options: Recipe.
        report: Called after each step.
        snapshot: File that is written after each tenth of an epoch. If it exists, training resumes from it. It is not
            removed here.

    Returns:
        The warmed-up state: parameters, no momentum, statistics of the source data.

    Raises:
        UsageError: Frames and labels do not match each other or the network, fewer frames than a batch, or a loss that
            is no longer finite.
        InputFileError: `snapshot` belongs to another run.
        TransferError: `snapshot` cannot be written.
    """
    options = options or WarmUpOptions()
    labels = _checked_labels(frames, labels, options)
    # Drawn at random: the first frames of a folder sorted by class are all of one class.
    order = np.random.default_rng(options.seed).permutation(len(frames))
    if options.matched_start and not (snapshot and snapshot.exists()):
        match_frozen_features(network, frames[order[:_MATCHING_FRAMES]])
    run = run_identity(options, frames, labels, network.digest())
    train(network.groups, network, frames, labels, options, run=run, report=report, snapshot=snapshot)
    state = initial_state(network)
    statistics = measure_statistics(network, state, frames, options.batch, order[: options.statistics_frames])
    warmed = to_adapt_state(state._replace(statistics=statistics), network.digest())
    return AdaptState(
        warmed.parameters,
        warmed.momentum,
        warmed.statistics,
        warmed.network_digest,
        {"warm_up": str(asdict(options)), "frames": str(len(frames)), **momenta_note(network)},
    )


def fine_tune(
    network: nn.Module,
    frames: Frames,
    labels: Labels,
    options: WarmUpOptions | None = None,
    *,
    report: WarmUpCallback | None = None,
    snapshot: Path | None = None,
) -> nn.Module:
    """Train all weights of a plain `network` in place with the warm-up's recipe; returns it in eval mode.

    Args, Raises: As for `warm_up`.
    """
    options = options or WarmUpOptions()
    labels = _checked_labels(frames, labels, options)
    network.requires_grad_(True).train()
    run = run_identity(options, frames, labels, weights_digest(network))
    train(network, network, frames, labels, options, run=run, report=report, snapshot=snapshot)
    return network.eval()


def run_identity(options: WarmUpOptions, frames: Frames, labels: Labels, network: str) -> RunIdentity:
    """What must not have changed when a run is taken up again; the labels stand for the data and its order."""
    # Of soft answers the classes: their last bits depend on the number of threads.
    kind, classes = ("labels", labels) if labels.ndim == 1 else ("own answers", labels.argmax(1))
    digest = array_digest(classes.astype(np.int64))
    height, width = frames.shape[1:3]
    return {
        **{name: str(value) for name, value in asdict(options).items()},
        "frames": f"{len(labels)} of {height}x{width}",
        "data": f"{kind} {digest}",
        "network": network[:12],
    }


def _checked_labels(frames: Frames, labels: Labels, options: WarmUpOptions) -> Labels:
    if frames.ndim != 4 or frames.shape[-1] not in (1, 3) or frames.dtype != np.uint8:
        raise UsageError(f"frames are {frames.dtype} {list(frames.shape)}: expected uint8 [N, H, W, 3] or [N, H, W, 1]")
    classes = labels.ndim == 1 and np.issubdtype(labels.dtype, np.integer)
    if not classes and not (labels.ndim == 2 and labels.dtype == np.float32):
        raise UsageError(f"labels are {labels.dtype} {list(labels.shape)}: expected int64 [N], or float32 [N, classes]")
    if len(frames) != len(labels):
        raise UsageError(f"{len(frames)} frames, but {len(labels)} labels")
    if len(frames) < options.batch:
        raise UsageError(
            f"{len(frames)} frames are fewer than one batch of {options.batch}: give more, or a smaller batch"
        )
    return labels.astype(np.int64) if classes else labels
