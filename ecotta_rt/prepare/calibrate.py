"""Passes over source frames that need no labels: a matched start and a teacher's answers, and statistics at the end."""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ecotta_rt.method.ecotta import AdaptableNetwork
from ecotta_rt.method.lean.frozen import FrozenRun
from ecotta_rt.method.state import StepState
from ecotta_rt.method.statistics import Moments, Statistics, batch_moments
from ecotta_rt.method.step import Step
from ecotta_rt.options import StepOptions

__all__ = ["frozen_answers", "match_frozen_features", "measure_statistics"]

_BRANCH_START = 0.1
"""Scale of the convolution branch at a matched start, relative to the part's own spread: small, but not a dead ReLU."""


@torch.no_grad()
def match_frozen_features(network: AdaptableNetwork, frames: NDArray[np.uint8]) -> None:
    """Start each group near the identity: BN_k undoes its own normalisation, the convolution branch is small.

    With torch's usual start (weight 1, bias 0) BN_k rescales every part's output and the frozen parts behind it see
    features they were never trained on; warm-up then has to find the way back first.

    Args:
        network: Its groups are set in place; those whose norm holds its statistics undo nothing and are left alone.
        frames: uint8 `[N, H, W, C]`; a few hundred suffice for one mean and deviation a channel.
    """
    x = network.stem(_tensor(frames))
    for index, (part, group) in enumerate(zip(network.parts, network.meta_groups, strict=True)):
        own = part(x)
        if network.momenta.get(f"groups.{index}.norm") == 0.0:
            x = group(x, own)
            continue
        mean, variance = batch_moments(own)
        deviation = (variance + group.norm.eps).sqrt()
        group.norm.weight.copy_(deviation)
        group.norm.bias.copy_(mean)
        group.conv_norm.weight.copy_(_BRANCH_START * deviation)
        group.conv_norm.bias.zero_()
        x = group(x, own)


@torch.no_grad()
def frozen_answers(network: AdaptableNetwork, frames: NDArray[np.uint8], batch: int) -> NDArray[np.float32]:
    """What the frozen network makes of clean frames, by the statistics of its training: the teacher's soft answers.

    Args:
        network: Its groups are left out.
        frames: uint8 `[N, H, W, C]`.
        batch: Frames a forward pass.

    Returns:
        A probability for each class, float32 `[N, classes]`.
    """
    statistics = Statistics("source", network.source_statistics())
    pieces = [FrozenRun(piece, exact=False) for piece in network.frozen_pieces()]
    answers = []
    for start in range(0, len(frames), batch):
        x = _tensor(frames[start : start + batch])
        for piece in pieces:
            x = piece(x, statistics)
        answers.append(x.softmax(1).numpy())
    return np.concatenate(answers)


def measure_statistics(
    network: AdaptableNetwork,
    state: StepState,
    frames: NDArray[np.uint8],
    batch: int,
    places: NDArray[np.int64] | None = None,
) -> dict[str, Moments]:
    """Moments of every norm's input over source frames, the groups attached.

    Each batch is normalised by its own statistics (`batch` mode), as during warm-up. Over batches the variance is
    pooled: the mean of the variances plus the variance of the means. The variances alone would lose the second.

    Args:
        network: The frozen network and the groups' geometry.
        state: Its parameters are the groups' values.
        frames: uint8 `[N, H, W, C]`.
        batch: Frames a forward pass; a last batch of one frame is left out.
        places: Which of the frames, in which order; None: all. They may be mapped, and more than memory holds.

    Returns:
        Mean and biased variance by norm name; of norms that hold theirs, those of `state`.
    """
    step = Step(network, StepOptions(normalisation="batch", frozen_gradient="constant"))
    count, sums = 0, dict[str, tuple[Tensor, Tensor]]()  # weighted sums of E[x] and E[x^2], float64
    for piece in _pieces(frames, batch, np.arange(len(frames)) if places is None else places):
        for name, (mean, variance) in step.moments(state, _tensor(piece)).items():
            mean, variance = mean.double(), variance.double()
            first, second = sums.get(name, (torch.zeros_like(mean), torch.zeros_like(mean)))
            sums[name] = (first + len(piece) * mean, second + len(piece) * (variance + mean.square()))
        count += len(piece)
    pooled = {name: (first / count, second / count) for name, (first, second) in sums.items()}
    measured = {
        name: (mean.float(), (square - mean.square()).clamp_min(0).float()) for name, (mean, square) in pooled.items()
    }
    return {name: measured.get(name, known) for name, known in state.statistics.items()}


def _pieces(frames: NDArray[np.uint8], batch: int, places: NDArray[np.int64]) -> Iterator[NDArray[np.uint8]]:
    for start in range(0, len(places), batch):
        if len(places) - start > 1:
            yield frames[places[start : start + batch]]


def _tensor(frames: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(frames).permute(0, 3, 1, 2).float().div_(255)
