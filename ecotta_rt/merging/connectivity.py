"""Do networks come from one checkpoint? Asked of their weights, and of their answers to pictures without labels.

Networks that were fine-tuned from one checkpoint lie in one basin: on the straight line between them the loss stays
low. Those that were trained from different random weights do not, even where each does the same well, and their mean
is a network that knows nothing. Two signs tell them apart:

    weights     the cosine between two networks' weights, tensor by tensor; the median of the tensors. Weights that
                were drawn apart are as good as orthogonal.
    pictures    how far the network half-way has gone from its ends to guessing, (x_mid - x_ends) / (log K - x_ends):
                the mean of that for x the loss -log p(y) on pictures to which both ends give the same answer y, and
                for x the entropy on all pictures

The loss is the error barrier of linear mode connectivity with the networks' common answers in the place of labels;
alone it misleads where networks of different places agree on one class only, and entropy does not see answers that are
surely wrong. Both limits were measured: see docs/results-fleet.md.

Source:
    Frankle, Dziugaite, Roy, Carbin 2020, Linear Mode Connectivity and the Lottery Ticket Hypothesis, ICML, arXiv
    1912.05671, section 2 (the barrier); arXiv 2407.13771, section 3, for networks adapted to different domains.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ecotta_rt.errors import InputFileError
from ecotta_rt.merging.members import Member
from ecotta_rt.merging.networks import Report, is_shared, merge_networks
from ecotta_rt.prepare.storing import inner
from ecotta_rt.student.evaluate import logits_of

__all__ = [
    "HIGHEST_BARRIER",
    "LEAST_COSINE",
    "Barrier",
    "Likeness",
    "Origin",
    "barriers",
    "likenesses",
    "require_one_origin",
]

LEAST_COSINE = 0.3
"""Below it, weights do not come from one checkpoint. Measured: 0.58 at least from one, 0.02 at most from two."""

HIGHEST_BARRIER = 0.5
"""Above it, the way between two networks leads through one that rather guesses. Alone it lets some strangers pass."""

_ADVICE = (
    "Fine-tune both from one checkpoint, with fewer epochs or a smaller step size; or distil them into one network "
    "(ecotta student distil)"
)

_LEAST_PICTURES = 30
"""To which both give the same answer: below it a barrier says nothing."""


@dataclass(frozen=True)
class Likeness:
    """How alike a network's weights are to those of the first one.

    Attributes:
        first: Name of the first one.
        name: Of the other one.
        cosine: Median over the tensors of two dimensions and more; 0 for a tensor of zeros.
        least: Name and cosine of the tensor that is least alike.
    """

    first: str
    name: str
    cosine: float
    least: tuple[str, float]


@dataclass(frozen=True)
class Barrier:
    """What lies half-way between a network and the first one.

    Attributes:
        first: Name of the first one.
        name: Of the other one.
        pictures: How many were shown.
        common: To how many both give the same answer; the losses are those on them.
        loss: Mean of the two, and of the network half-way, its norms pooled.
        entropy: The same of all pictures.
        guessing: Either of them for a network that guesses, log K.
    """

    first: str
    name: str
    pictures: int
    common: int
    loss: tuple[float, float]
    entropy: tuple[float, float]
    guessing: float

    @property
    def told(self) -> bool:
        """Whether the pictures say anything: both answer enough of them alike."""
        return self.common >= _LEAST_PICTURES

    @property
    def share(self) -> float:
        """0: as good as its ends. 1: it guesses. NaN where there is no common answer."""
        return statistics.mean(self._share(*pair) for pair in (self.loss, self.entropy))

    def _share(self, ends: float, middle: float) -> float:
        room = self.guessing - ends
        return (middle - ends) / room if self.common and room > 0 else math.nan


@dataclass(frozen=True)
class Origin:
    """What `require_one_origin` found.

    Attributes:
        likenesses: Of each network but the first.
        barriers: The same; empty without pictures.
        doubts: What could not be told, a sentence each.
    """

    likenesses: tuple[Likeness, ...]
    barriers: tuple[Barrier, ...]
    doubts: tuple[str, ...]


def likenesses(members: Sequence[Member], *, head: str | None = None) -> tuple[Likeness, ...]:
    """Compare the weights of each member but the first with the first one's; two networks are in memory.

    Args:
        members: From `file_members`; of one kind, as `merge_networks` asks it.
        head: Left out, as for `merge_networks`.
    """
    first = _weights(members[0], head)
    found = []
    for member in members[1:]:
        cosines = {key: _cosine(first[key], value) for key, value in _weights(member, head).items()}
        least = min(cosines, key=lambda key: cosines[key])
        cosine = statistics.median(cosines.values())
        found.append(Likeness(members[0].name, member.name, cosine, (least, cosines[least])))
    return tuple(found)


@torch.no_grad()
def barriers(
    members: Sequence[Member],
    frames: NDArray[np.uint8],
    *,
    head: str | None = None,
    report: Report | None = None,
) -> tuple[Barrier, ...]:
    """Look half-way between each member and the first one; no labels are needed.

    Args:
        members: As for `likenesses`; they tell the same classes apart.
        frames: uint8 `[N, H, W, C]`, of all the places where they were trained or adapted.
        head: As for `merge_networks`: each keeps its own half-way, too.
        report: See `Report`.
    """
    first, found = members[0], []
    ours = logits_of(first.open(), frames)
    for place, member in enumerate(members[1:], start=1):
        if report:
            report(place - 1, len(members) - 1, member.name)
        theirs = logits_of(member.open(), frames)
        pair = [replace(one, weight=1.0) for one in (first, member)]
        half_way = merge_networks(pair, head=head)
        middles = [logits_of(half_way.fill(one.open(), at), frames) for at, one in enumerate(pair)]
        found.append(_barrier(first.name, member.name, ours, theirs, middles))
    return tuple(found)


def _barrier(first: str, name: str, ours: Tensor, theirs: Tensor, middles: Sequence[Tensor]) -> Barrier:
    """Of logits `[N, K]`."""
    answers = ours.argmax(1)
    common = answers == theirs.argmax(1)

    def loss(logits: Sequence[Tensor]) -> float:
        return statistics.mean(float(F.cross_entropy(one[common], answers[common])) for one in logits)

    def entropy(logits: Sequence[Tensor]) -> float:
        return statistics.mean(float(-(one.softmax(1) * one.log_softmax(1)).sum(1).mean()) for one in logits)

    ends = (ours, theirs)
    losses, entropies = (loss(ends), loss(middles)), (entropy(ends), entropy(middles))
    return Barrier(first, name, len(ours), int(common.sum()), losses, entropies, math.log(ours.shape[1]))


def require_one_origin(
    members: Sequence[Member],
    frames: NDArray[np.uint8] | None = None,
    *,
    head: str | None = None,
    report: Report | None = None,
) -> Origin:
    """Refuse networks that do not come from one checkpoint, as far as their weights and pictures can tell.

    Args:
        members: As for `likenesses`.
        frames: As for `barriers`; None: the weights alone are asked.
        head: As for `merge_networks`.
        report: See `Report`.

    Raises:
        InputFileError: The cosine of one's weights with the first one's is below `LEAST_COSINE`, or the way to it leads
            over a barrier above `HIGHEST_BARRIER`; the message names both and the number.
    """
    alike = likenesses(members, head=head)
    for one in alike:
        if not one.cosine >= LEAST_COSINE:
            raise InputFileError(
                f"{one.name} and {one.first} do not come from one checkpoint: the cosine between their weights is "
                f"{one.cosine:.2f}, at least {LEAST_COSINE:g} is expected (least alike: '{one.least[0]}', "
                f"{one.least[1]:.2f}). Their mean would only guess. {_ADVICE}"
            )
    if frames is None or not len(frames):
        return Origin(alike, (), ())
    classes = {len(logits_of(member.open(), frames[:1])[0]) for member in members}
    if len(classes) > 1:
        return Origin(alike, (), ("they tell different classes apart, so pictures cannot be asked: only weights were",))
    found = barriers(members, frames, head=head, report=report)
    for wall in found:
        if wall.told and not wall.share <= HIGHEST_BARRIER:
            raise InputFileError(
                f"{wall.name} and {wall.first} are not connected: the network half-way between them has gone "
                f"{wall.share:.2f} of the way to guessing on {wall.pictures} pictures, at most {HIGHEST_BARRIER:g} is "
                f"expected (its loss where both agree is {wall.loss[1]:.2f}, theirs {wall.loss[0]:.2f}). {_ADVICE}"
            )
    doubts = [
        f"{wall.name} and {wall.first} agree on {wall.common} of {wall.pictures} pictures, too few to tell whether "
        f"they are connected (at least {_LEAST_PICTURES}), so only weights were asked; give more, of all the places"
        for wall in found
        if not wall.told
    ]
    return Origin(alike, found, tuple(doubts))


def _weights(member: Member, head: str | None) -> dict[str, Tensor]:
    """Convolutions and matrices alone, where there are any: scales and variances of any two networks are alike."""
    state = inner(member.open()).state_dict()
    found = {key: value for key, value in state.items() if value.is_floating_point() and is_shared(key, head)}
    if not found:
        raise InputFileError(f"{member.name}: there are no weights in it to compare")
    return {key: value for key, value in found.items() if value.ndim > 1} or found


def _cosine(one: Tensor, other: Tensor) -> float:
    return float(F.cosine_similarity(one.flatten().double(), other.flatten().double(), dim=0))
