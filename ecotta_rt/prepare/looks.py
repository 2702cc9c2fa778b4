"""What training all weights of a network did to it: held-out pictures, clean and under corruptions, before and after.

Corrupted ones are played with the statistics of each batch, as the device's norms follow their frames, and clean ones
with the network's own. Corrupting needs scipy; without it only the clean ones are looked at.
"""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ecotta_rt.data import Labelled
from ecotta_rt.data.corruptions import SMALLEST_SIDE, require_packages
from ecotta_rt.data.corruptions.any_shape import SAMPLE, corrupt_any
from ecotta_rt.errors import Unavailable
from ecotta_rt.method.attach import attach
from ecotta_rt.method.cut.partition import partition
from ecotta_rt.method.torch_engine import TorchEngine
from ecotta_rt.options import StepOptions
from ecotta_rt.prepare.held_out import wrong_answers
from ecotta_rt.prepare.identity import start_as_identity

__all__ = ["Looks", "Seen"]

_SEVERITY = 5
_MOST_CORRUPTED = 400
"""Pictures under each corruption: five of them are 2,000 frames, and a standard error of about a point."""


@dataclass(frozen=True, eq=False)
class Seen:
    """Which pictures a network was wrong about.

    Attributes:
        clean: bool `[N]`.
        corrupted: bool `[corruptions, n]`; None where none were played.
    """

    clean: NDArray[np.bool_]
    corrupted: NDArray[np.bool_] | None

    @property
    def errors_percent(self) -> dict[str, float]:
        """`clean`, and `corrupted` where there are such."""
        found = {"clean": self.clean} | ({} if self.corrupted is None else {"corrupted": self.corrupted})
        return {name: 100 * float(wrong.mean()) for name, wrong in found.items()}

    @property
    def error_percent(self) -> float:
        """In the mean of clean pictures and each corruption."""
        return 100 * float(np.mean([self.clean.mean(), *([] if self.corrupted is None else self.corrupted.mean(1))]))

    def clean_is_worse_than(self, other: "Seen") -> bool:
        """Whether more clean pictures are wrong than in `other`, by two standard errors of the difference or more."""
        differs = int((self.clean != other.clean).sum())
        return bool(int(self.clean.sum()) - int(other.clean.sum()) > 2 * np.sqrt(differs))

    def __str__(self) -> str:
        return ", ".join(f"{name} {error:.1f} %" for name, error in self.errors_percent.items())


class Looks:
    """Held-out pictures that networks are compared on.

    Args:
        held_out: Of one size. Up to 400 of them are corrupted, drawn at random.
        parts: As networks are cut in the end.
        batch: Frames a forward pass.
        normalisation: Of corrupted pictures: `batch`, or `source` where the norms shall never follow their frames.
        seed: Of what is drawn.
        tell: Hears why nothing is corrupted.
    """

    def __init__(
        self,
        held_out: Labelled,
        *,
        parts: int,
        batch: int,
        normalisation: Literal["batch", "source"] = "batch",
        seed: int = 0,
        tell: Callable[[str], None] | None = None,
    ) -> None:
        self._clean, self._parts, self._batch = held_out, parts, batch
        self._options = StepOptions(normalisation=normalisation)
        # Drawn in any order: held-out pictures stand class by class, and a batch of one class has its statistics.
        places = np.random.default_rng(seed).permutation(len(held_out.labels))[:_MOST_CORRUPTED]
        self._places, self._seed = places, seed
        why = _why_not(held_out, len(places))
        self._corruptions = SAMPLE if why is None else ()
        if why is not None and tell is not None:
            tell(f"held-out pictures are played clean alone: {why}")

    def see(self, network: nn.Module) -> Seen:
        """Play them to a network in evaluation mode, which stays as it is."""
        clean = wrong_answers(network, self._clean, self._batch)
        if not self._corruptions:
            return Seen(clean, None)
        pieces = partition(deepcopy(network), torch.zeros(1, *self._frame_shape()), self._parts)
        adaptable = attach(pieces, 1)
        start_as_identity(adaptable)
        answer = TorchEngine(adaptable, self._options).predict
        # One kind at a time, anew at each look: at 224 x 224 each is 60 MB, which would stay through the training.
        wrong = [wrong_answers(answer, self._corrupted(name), self._batch) for name in self._corruptions]
        return Seen(clean, np.stack(wrong))

    def _corrupted(self, name: str) -> Labelled:
        frames = corrupt_any(self._clean.frames[self._places], name, severity=_SEVERITY, seed=self._seed)
        return Labelled(frames, self._clean.labels[self._places])

    def as_json(self) -> dict[str, Any]:
        """What is played."""
        return {"pictures": len(self._clean.labels), "corruptions": list(self._corruptions), "severity": _SEVERITY}

    def _frame_shape(self) -> tuple[int, int, int]:
        height, width, channels = self._clean.frames.shape[1:]
        return channels, height, width


def _why_not(held_out: Labelled, count: int) -> str | None:
    if max(held_out.frames.shape[1:3]) < SMALLEST_SIDE:
        return f"frames of fewer than {SMALLEST_SIDE} pixels cannot be corrupted"
    if count < 2:
        return "one picture has no statistics"
    try:
        require_packages()
    except Unavailable as error:
        return str(error)
    return None
