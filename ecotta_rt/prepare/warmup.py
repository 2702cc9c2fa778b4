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
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from ecotta_rt.errors import InputFileError, UsageError
from ecotta_rt.method.attach import momenta_note
from ecotta_rt.method.ecotta import AdaptableNetwork
from ecotta_rt.method.state import initial_state, to_adapt_state
from ecotta_rt.prepare.augment import Augmentation, augmented
from ecotta_rt.prepare.calibrate import match_frozen_features, measure_statistics
from ecotta_rt.prepare.snapshot import RunIdentity, array_digest, read_snapshot, save_snapshot, weights_digest
from ecotta_rt.state import AdaptState

__all__ = ["WarmUpOptions", "WarmUpProgress", "fine_tune", "warm_up"]

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


@dataclass(frozen=True)
class WarmUpProgress:
    """Where a training run stands; handed to the `report` callback after each step."""

    step: int
    steps: int
    epoch: int
    epochs: int
    loss: float  # mean over the epoch so far
    error_percent: float  # on the training frames of the epoch so far
    seconds: float


WarmUpCallback = Callable[[WarmUpProgress], None]


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
        snapshot: File that is written after each epoch. If it exists, training resumes from it. It is not removed here.

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
    run = _identity(options, frames, labels, network.digest())
    _train(network.groups, network, frames, labels, options, report, snapshot, run)
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
    run = _identity(options, frames, labels, weights_digest(network))
    _train(network, network, frames, labels, options, report, snapshot, run)
    return network.eval()


def _train(
    trained: nn.Module,
    forward: Callable[[Tensor], Tensor],
    frames: Frames,
    labels: Labels,
    options: WarmUpOptions,
    report: WarmUpCallback | None,
    snapshot: Path | None,
    run: RunIdentity,
) -> None:
    """SGD by cross-entropy over `trained`'s parameters."""
    began = time.monotonic()
    optimiser = torch.optim.SGD(trained.parameters(), lr=options.lr, momentum=options.momentum)
    generator = torch.Generator().manual_seed(options.seed)
    per_epoch = len(labels) // options.batch
    steps = options.epochs * per_epoch
    first = _resume(snapshot, trained, optimiser, generator, run)
    for epoch in range(first, options.epochs):
        loss_sum, wrong = 0.0, 0
        for index, (batch, target) in enumerate(_batches(frames, labels, options, generator)):
            step = epoch * per_epoch + index
            for settings in optimiser.param_groups:
                settings["lr"] = _rate(step, steps, options)
            with torch.autocast("cpu", torch.bfloat16, enabled=options.precision == "bfloat16"):
                logits = forward(batch)
            _require_known(labels, logits)
            loss = F.cross_entropy(logits.float(), target)  # of classes or of soft answers
            loss_sum += loss.item()
            if not math.isfinite(loss_sum):
                raise UsageError(f"the loss is {loss.item()} in step {step + 1}: give a smaller lr than {options.lr}")
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            wrong += int((logits.argmax(1) != (target.argmax(1) if target.dim() == 2 else target)).sum())
            if report:
                seen = index + 1
                error = 100 * wrong / seen / options.batch
                seconds = time.monotonic() - began
                report(WarmUpProgress(step + 1, steps, epoch + 1, options.epochs, loss_sum / seen, error, seconds))
        _save_snapshot(snapshot, trained, optimiser, generator, run, epoch + 1)


def _rate(step: int, steps: int, options: WarmUpOptions) -> float:
    ramp = max(1, steps // 10)
    if step < ramp:
        return options.lr * (step + 1) / ramp
    return options.lr * options.decay ** sum(step >= share * steps for share in options.milestones)


def _batches(
    frames: Frames, labels: Labels, options: WarmUpOptions, generator: torch.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    order = torch.randperm(len(labels), generator=generator).numpy()
    for start in range(0, len(order) - options.batch + 1, options.batch):
        chosen = order[start : start + options.batch]
        yield augmented(frames[chosen], options.augmentation, generator), torch.from_numpy(labels[chosen])


def _save_snapshot(
    path: Path | None,
    trained: nn.Module,
    optimiser: torch.optim.SGD,
    generator: torch.Generator,
    run: RunIdentity,
    epochs_done: int,
) -> None:
    saved: dict[str, Any] = {
        "weights": trained.state_dict(),
        "optimiser": optimiser.state_dict(),
        "generator": generator.get_state(),
        "epochs_done": epochs_done,
    }
    save_snapshot(path, run, saved)


def _resume(
    path: Path | None,
    trained: nn.Module,
    optimiser: torch.optim.SGD,
    generator: torch.Generator,
    run: RunIdentity,
) -> int:
    saved = read_snapshot(path, run)
    if saved is None:
        return 0
    try:
        trained.load_state_dict(saved["weights"])
        optimiser.load_state_dict(saved["optimiser"])
    except (RuntimeError, ValueError) as error:
        raise InputFileError(
            f"{path}: snapshot of a run with other meta groups or another network; remove it to start again"
        ) from error
    generator.set_state(saved["generator"])
    return int(saved["epochs_done"])


def _identity(options: WarmUpOptions, frames: Frames, labels: Labels, network: str) -> RunIdentity:
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


def _require_known(labels: Labels, logits: Tensor) -> None:
    if labels.ndim == 2:
        if labels.shape[1] != logits.shape[1]:
            raise UsageError(f"answers {list(labels.shape)} for a network of {logits.shape[1]} classes")
        return
    low, high, classes = int(labels.min()), int(labels.max()), logits.shape[1]
    if low < 0 or high >= classes:
        raise UsageError(
            f"labels go from {low} to {high}, but the network has {classes} classes, 0 to {classes - 1}: "
            "give the data that it was trained on"
        )


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
