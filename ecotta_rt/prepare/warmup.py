"""Warm the meta groups up on source data, before deployment.

    attach()  ->  warm_up()  ->  measure_statistics()  ->  AdaptState

Labels are classes, or the frozen network's own soft answers (`calibrate.frozen_answers`): from those the groups learn
to answer an augmented picture as the network answers the clean one, which is self-distillation and needs no labels.

`fine_tune` trains *all* weights of a plain network with the same data and augmentation: what `ecotta prepare
--fine-tune` does first, and the control for how much of EcoTTA's lead is just extra training.

Source:
    Song et al. 2023, EcoTTA, arXiv 2303.01904, section 3.1 (warm-up); rates and augmentation as in the public code.
"""

from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import nn

from ecotta_rt.errors import UsageError
from ecotta_rt.method.attach import momenta_note
from ecotta_rt.method.ecotta import AdaptableNetwork
from ecotta_rt.method.state import initial_state, to_adapt_state
from ecotta_rt.prepare.calibrate import match_frozen_features, measure_statistics
from ecotta_rt.prepare.epochs import WarmUpCallback, WarmUpOptions, train
from ecotta_rt.prepare.snapshot import RunIdentity, array_digest, weights_digest
from ecotta_rt.state import AdaptState

__all__ = ["fine_tune", "run_identity", "warm_up"]

_MATCHING_FRAMES = 256
"""For one mean and deviation a channel: enough, and at 224x224 still no more than a gigabyte of features."""

Frames = NDArray[np.uint8]  # [N, H, W, C], mapped from a file where the set is large
Labels = NDArray[np.int64] | NDArray[np.float32]  # classes [N], or soft answers [N, classes]


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
    """Train all weights of a plain network with the warm-up's recipe, before it is cut and groups are attached.

    Args:
        network: Frames float32 `[N, C, H, W]` in [0, 1] to logits; trained in place, weights that its code froze, too.
            Not one that `attach` took over: its norms no longer follow anything.
        frames: uint8 `[N, H, W, C]`, source data.
        labels: int64 `[N]`; or float32 `[N, classes]`, a probability for each class.
        options: Recipe; a trained network wants a tenth of the step size of new groups, and one or two epochs. What it
            says of groups and their statistics does not count.
        report: Called after each step.
        snapshot: As for `warm_up`.

    Returns:
        `network`, in evaluation mode. A file of it holds its weights in fp16: to warm groups up that fit the file, save
        it and open it again first, as `ecotta prepare --fine-tune` does.

    Raises:
        UsageError: As for `warm_up`, and so are the other errors.
        InputFileError: `snapshot` belongs to another run.
        TransferError: `snapshot` cannot be written.
    """
    options = options or WarmUpOptions()
    labels = _checked_labels(frames, labels, options)
    network.requires_grad_(True).train()
    run = run_identity(options, frames, labels, weights_digest(network))
    train(network, network, frames, labels, options, run=run, report=report, snapshot=snapshot)
    return network.eval()


def run_identity(options: WarmUpOptions, frames: Frames, labels: Labels, network: str) -> RunIdentity:
    """What must not have changed when a run is taken up again."""
    # Of soft answers the classes: their last bits depend on the number of threads.
    kind, classes = ("labels", labels) if labels.ndim == 1 else ("own answers", labels.argmax(1))
    digest = array_digest(classes.astype(np.int64))
    height, width = frames.shape[1:3]
    return {
        **{name: str(value) for name, value in asdict(options).items()},
        "frames": f"{len(labels)} of {height}x{width}",
        "data": f"{kind} {digest}",
        "pictures": array_digest(frames),
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
