"""Epochs of SGD by cross-entropy, with a snapshot after each tenth of one: what `warm_up` and `fine_tune` share.

A run that is taken up again ends as one that was never interrupted, to the bit on the same machine: order and
augmentation come from a generator of their own, and what a network draws itself, such as a dropout, from torch's, which
is seeded here and given back.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from ecotta_rt.errors import InputFileError, UsageError
from ecotta_rt.prepare.augment import Augmentation, augmented
from ecotta_rt.prepare.snapshot import RunIdentity, read_snapshot, save_snapshot

__all__ = ["Diverged", "WarmUpOptions", "WarmUpProgress", "train"]

_SNAPSHOTS = 10
"""In an epoch: one epoch of a large set can take an hour."""

Frames = NDArray[np.uint8]
Labels = NDArray[np.int64] | NDArray[np.float32]


class Diverged(UsageError):
    """A loss that is no longer finite."""


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


@dataclass
class _Place:
    """How far a run is: whole epochs, and steps of the one after them with what they summed up to."""

    epochs: int = 0
    steps: int = 0
    loss_sum: float = 0.0
    wrong: int = 0


def train(
    trained: nn.Module,
    forward: Callable[[Tensor], Tensor],
    frames: Frames,
    labels: Labels,
    options: WarmUpOptions,
    *,
    run: RunIdentity,
    report: WarmUpCallback | None = None,
    snapshot: Path | None = None,
) -> None:
    """Train `trained`'s parameters in place.

    Args:
        trained: What learns.
        forward: Frames float32 `[N, C, H, W]` to logits, through `trained`.
        frames: uint8 `[N, H, W, C]`.
        labels: int64 `[N]`, or float32 `[N, classes]`.
        options: Recipe.
        run: Whose snapshot it is.
        report: Called after each step.
        snapshot: As for `warm_up`.

    Raises:
        UsageError: Labels that are not the network's.
        Diverged: A loss that is no longer finite; `snapshot` is removed, since it leads there again.
        InputFileError: `snapshot` belongs to another run.
        TransferError: `snapshot` cannot be written.
    """
    began_s = time.monotonic()
    optimiser = torch.optim.SGD(trained.parameters(), lr=options.lr, momentum=options.momentum)
    generator = torch.Generator().manual_seed(options.seed)
    per_epoch = len(labels) // options.batch
    every, steps = -(-per_epoch // _SNAPSHOTS), options.epochs * per_epoch
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        place, inside = _resume(snapshot, trained, optimiser, generator, run)
        while place.epochs < options.epochs:
            began = generator.get_state()
            order = torch.randperm(len(labels), generator=generator).numpy()
            if inside is not None:  # of an epoch, whose order had to be drawn first
                generator.set_state(inside)
                inside = None
            while place.steps < per_epoch:
                step = place.epochs * per_epoch + place.steps
                for settings in optimiser.param_groups:
                    settings["lr"] = _rate(step, steps, options)
                chosen = order[place.steps * options.batch : (place.steps + 1) * options.batch]
                batch, target = (
                    augmented(frames[chosen], options.augmentation, generator),
                    torch.from_numpy(labels[chosen]),
                )
                logits, loss = _step(forward, batch, target, labels, optimiser, options)
                place.steps += 1
                place.loss_sum += loss
                if not math.isfinite(place.loss_sum):
                    if snapshot is not None:
                        snapshot.unlink(missing_ok=True)
                    raise Diverged(f"the loss is {loss} in step {step + 1}: give a smaller lr than {options.lr}")
                place.wrong += int((logits.argmax(1) != (target.argmax(1) if target.dim() == 2 else target)).sum())
                if report:
                    report(_progress(place, per_epoch, options, time.monotonic() - began_s))
                if place.steps % every == 0 and place.steps < per_epoch:
                    _save(snapshot, trained, optimiser, generator, run, place, began)
            place = _Place(place.epochs + 1)
            _save(snapshot, trained, optimiser, generator, run, place)


def _step(
    forward: Callable[[Tensor], Tensor],
    batch: Tensor,
    target: Tensor,
    labels: Labels,
    optimiser: torch.optim.SGD,
    options: WarmUpOptions,
) -> tuple[Tensor, float]:
    with torch.autocast("cpu", torch.bfloat16, enabled=options.precision == "bfloat16"):
        logits = forward(batch)
    _require_known(labels, logits)
    loss = F.cross_entropy(logits.float(), target)  # of classes or of soft answers
    if math.isfinite(loss.item()):
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return logits, loss.item()


def _progress(place: _Place, per_epoch: int, options: WarmUpOptions, seconds: float) -> WarmUpProgress:
    return WarmUpProgress(
        step=place.epochs * per_epoch + place.steps,
        steps=options.epochs * per_epoch,
        epoch=place.epochs + 1,
        epochs=options.epochs,
        loss=place.loss_sum / place.steps,
        error_percent=100 * place.wrong / place.steps / options.batch,
        seconds=seconds,
    )


def _rate(step: int, steps: int, options: WarmUpOptions) -> float:
    ramp = max(1, steps // 10)
    if step < ramp:
        return options.lr * (step + 1) / ramp
    return options.lr * options.decay ** sum(step >= share * steps for share in options.milestones)


def _save(
    path: Path | None,
    trained: nn.Module,
    optimiser: torch.optim.SGD,
    generator: torch.Generator,
    run: RunIdentity,
    place: _Place,
    began: Tensor | None = None,
) -> None:
    """`began`: the generator's state before the epoch that is not whole yet."""
    saved: dict[str, Any] = {
        "weights": trained.state_dict(),
        "optimiser": optimiser.state_dict(),
        "generator": generator.get_state(),
        "torch_generator": torch.get_rng_state(),
        "epochs_done": place.epochs,
    }
    if began is not None:
        saved |= {"began": began, "inside": {"steps": place.steps, "loss_sum": place.loss_sum, "wrong": place.wrong}}
    save_snapshot(path, run, saved)


def _resume(
    path: Path | None,
    trained: nn.Module,
    optimiser: torch.optim.SGD,
    generator: torch.Generator,
    run: RunIdentity,
) -> tuple[_Place, Tensor | None]:
    """Where to go on, and the generator's state there where that is inside an epoch; it stands at the epoch's start."""
    saved = read_snapshot(path, run)
    if saved is None:
        return _Place(), None
    try:
        trained.load_state_dict(saved["weights"])
        optimiser.load_state_dict(saved["optimiser"])
    except (RuntimeError, ValueError) as error:
        raise InputFileError(
            f"{path}: snapshot of a run with other meta groups or another network; remove it to start again"
        ) from error
    torch.set_rng_state(saved.get("torch_generator", torch.get_rng_state()))  # older versions did not keep it
    generator.set_state(saved.get("began", saved["generator"]))
    place = _Place(int(saved["epochs_done"]), **saved.get("inside", {}))
    return place, saved["generator"] if place.steps else None


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
