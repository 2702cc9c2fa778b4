"""Augmentation of the warm-up by name and strength, on a whole batch at once.

    Augmentation.parse("jitter:0.4,augmix:0.3")

Each is a function (frames, strength, draws) -> frames over float32 `[N, C, H, W]` in [0, 1], RGB or grey; a strength of
0 changes nothing. One family a file.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ecotta_rt.errors import UsageError
from ecotta_rt.prepare.augment.chains import augmix
from ecotta_rt.prepare.augment.colour import blur, curves, grey, jitter
from ecotta_rt.prepare.augment.draws import Draws
from ecotta_rt.prepare.augment.filters import amplitude, filters, waves
from ecotta_rt.prepare.augment.geometry import erase, flip, shift
from ecotta_rt.prepare.augment.textures import textures

__all__ = ["AUGMENTATIONS", "Augmentation", "Known", "augment", "augmented"]


class Known(NamedTuple):
    """An augmentation: what it does, its usual strength, and the test corruption it comes near to."""

    apply: Callable[[Tensor, float, Draws], Tensor]
    usual: float
    near: str = ""


AUGMENTATIONS: Mapping[str, Known] = MappingProxyType(
    {
        "jitter": Known(jitter, 0.4, "brightness, contrast"),
        "blur": Known(blur, 0.2, "defocus_blur"),
        "grey": Known(grey, 0.1),
        "flip": Known(flip, 0.5),
        "shift": Known(shift, 0.125),
        "erase": Known(erase, 0.5),
        "augmix": Known(augmix, 0.3),
        "curves": Known(curves, 0.3, "brightness, contrast"),
        "filters": Known(filters, 0.5),
        "amplitude": Known(amplitude, 0.5),
        "waves": Known(waves, 0.5),
        "textures": Known(textures, 0.4),
    }
)
"""By name. `near` says which of the 15 corruptions of CIFAR-10-C it is like; where a benchmark tells, leave it out."""


@dataclass(frozen=True)
class Augmentation:
    """What is done to a batch, in this order.

    Attributes:
        steps: Names from `AUGMENTATIONS`, each with its strength in [0, 1].
        draws: How many different ones a batch has; None: one a frame. Frames that share a draw look like one place.
    """

    steps: tuple[tuple[str, float], ...] = (("jitter", 0.4), ("blur", 0.2), ("grey", 0.1))
    draws: int | None = None

    def __post_init__(self) -> None:
        for name, strength in self.steps:
            _require_known(name)
            if not 0.0 <= strength <= 1.0:
                raise UsageError(f"augmentation {name}:{strength}: a strength lies between 0 and 1")
        if self.draws is not None and self.draws < 1:
            raise UsageError(f"draws={self.draws}: at least 1 a batch, or None for one a frame")

    @classmethod
    def parse(cls, text: str, draws: int | None = None) -> "Augmentation":
        """Read `NAME[:STRENGTH],...`; `none` is no augmentation.

        Raises:
            UsageError: A name that is not known, or a strength that is no number or out of range.
        """
        names = [] if text.strip() in ("", "none") else text.split(",")
        return cls(tuple(_step(name.strip()) for name in names), draws)

    def __str__(self) -> str:
        return ",".join(f"{name}:{strength:g}" for name, strength in self.steps) or "none"


def augment(frames: Tensor, how: Augmentation, generator: torch.Generator) -> Tensor:
    """Augment float32 `[N, C, H, W]` in [0, 1], RGB or grey; returns the same shape and range."""
    draws = Draws(len(frames), generator, how.draws)
    for name, strength in how.steps:
        if strength > 0:
            frames = AUGMENTATIONS[name].apply(frames, strength, draws).clamp(0, 1)  # rounding may leave the range
    return frames


def augmented(frames: NDArray[np.uint8], how: Augmentation, generator: torch.Generator) -> Tensor:
    """A batch to train on: uint8 `[N, H, W, C]` to float32 `[N, C, H, W]` in [0, 1], augmented, channels last."""
    # NHWC in memory seen as NCHW is exactly torch's channels-last layout: the faster one on a CPU.
    batch = torch.from_numpy(frames).permute(0, 3, 1, 2).float().div_(255)
    return augment(batch, how, generator).contiguous(memory_format=torch.channels_last)


def _step(text: str) -> tuple[str, float]:
    name, colon, number = text.partition(":")
    _require_known(name)
    if not colon:
        return name, AUGMENTATIONS[name].usual
    if not re.fullmatch(r"[0-9]*\.?[0-9]+", number, re.ASCII):
        raise UsageError(f"augmentation {text!r}: {number!r} is no strength; write a number from 0 to 1, {name}:0.5")
    return name, float(number)


def _require_known(name: str) -> None:
    if name not in AUGMENTATIONS:
        nearest = get_close_matches(name, AUGMENTATIONS, n=1, cutoff=0.5)
        hint = f"; did you mean {nearest[0]}?" if nearest else ""
        raise UsageError(f"unknown augmentation {name!r}{hint} Known: {', '.join(AUGMENTATIONS)}")
