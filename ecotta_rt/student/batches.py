"""Mini-batches from all domains: one of the source and one a target, each domain cycling on its own."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ecotta_rt.errors import UsageError
from ecotta_rt.prepare.augment import Augmentation, augmented
from ecotta_rt.student.domains import Domain, Domains
from ecotta_rt.student.evaluate import as_floats

__all__ = ["DomainBatch", "batches", "batches_an_epoch", "check_batch", "frame_batches"]


@dataclass(frozen=True, eq=False)
class DomainBatch:
    """One step's frames, float32 `[B, C, H, W]` in [0, 1], augmented.

    Attributes:
        source: Of the source.
        labels: int64 `[B]`, of `source`.
        targets: Of each target, in their order.
    """

    source: Tensor
    labels: Tensor
    targets: tuple[Tensor, ...]


def check_batch(size: int, there: int, of: str = "of the source") -> None:
    """Refuse, with a UsageError, fewer than 2 frames a batch, or more than there are pictures."""
    if not 2 <= size <= there:
        raise UsageError(f"batch {size}: from 2 up to the {there} pictures {of}")


def batches_an_epoch(domains: Domains, size: int) -> int:
    """How many `batches` gives: an epoch is one pass over the source.

    Raises:
        UsageError: Fewer than 2 frames a batch, or a source smaller than a batch.
    """
    count = len(domains.labels)
    check_batch(size, count)
    return count // size


def batches(
    domains: Domains, size: int, generator: torch.Generator, augmentation: Augmentation | None = None
) -> Iterator[DomainBatch]:
    """The batches of one epoch: a pass over the source in a new order, and as many from each target.

    A target that is shorter begins again in a new order, one that is longer shows another part in each epoch; so a
    small one is seen more often than the source, and no batch is ever short.

    Args:
        domains: Whose.
        size: Frames of each domain in a batch.
        generator: All randomness comes from it: its state alone says what follows, and an epoch starts anew.
        augmentation: Done to every frame of every domain; None: the warm-up's usual one.

    Raises:
        UsageError: As `batches_an_epoch`.
    """
    count = batches_an_epoch(domains, size)
    how = augmentation or Augmentation()
    every = [_places(len(domain.frames), size, generator) for domain in (domains.source, *domains.targets)]
    for _ in range(count):
        source, *targets = [next(places) for places in every]
        yield DomainBatch(
            augmented(domains.source.frames[source], how, generator),
            torch.from_numpy(domains.labels[source]),
            tuple(
                augmented(domain.frames[places], how, generator)
                for domain, places in zip(domains.targets, targets, strict=True)
            ),
        )


def frame_batches(domains: Sequence[Domain], size: int = 128) -> Iterator[Tensor]:
    """Frames as they are, of each domain as many as the largest has: for statistics of norms, see `recalibrate`.

    A domain that is smaller begins again in a new order, so that none is cut and each counts as much as another.

    Args:
        domains: At least one, each with a frame or more.
        size: Frames in a batch, about: they are split evenly, each batch the same mixture of all domains.
    """
    longest = max(len(domain.frames) for domain in domains)
    parts = min(longest, max(1, longest * len(domains) // size))
    orders = [_cycled(len(domain.frames), longest) for domain in domains]
    for places in zip(*(np.array_split(order, parts) for order in orders), strict=True):
        frames = [domain.frames[chosen] for domain, chosen in zip(domains, places, strict=True)]
        yield as_floats(np.concatenate(frames))


def _cycled(there: int, wanted: int) -> NDArray[np.int64]:
    """`wanted` places of one random order after another, the same in each run."""
    generator = np.random.default_rng(0)
    return np.concatenate([generator.permutation(there) for _ in range(-(-wanted // there))])[:wanted]


def _places(there: int, size: int, generator: torch.Generator) -> Iterator[NDArray[np.int64]]:
    """Without end: `size` places at a time of one random order after another."""
    queue = np.empty(0, np.int64)
    while True:
        while len(queue) < size:
            queue = np.concatenate([queue, torch.randperm(there, generator=generator).numpy()])
        chosen, queue = queue[:size], queue[size:]
        yield chosen
