"""Logits of a network for many frames: for signs that need no labels, and for errors where labels are."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ecotta_rt.method.modes import kept_modes

__all__ = ["as_floats", "error_percent", "example_frames", "logits_of"]

_BATCH = 256
_EXAMPLES = 512


def as_floats(frames: NDArray[np.uint8]) -> Tensor:
    """Frames uint8 `[N, H, W, C]` as networks take them: float32 `[N, C, H, W]` in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2) / 255


def logits_of(network: nn.Module, frames: NDArray[np.uint8]) -> Tensor:
    """Logits `[N, K]` of frames uint8 `[N, H, W, C]`, as they are, in evaluation mode; the network's modes stay."""
    with kept_modes(network), torch.no_grad():
        network.eval()
        found = [network(as_floats(frames[start : start + _BATCH])) for start in range(0, len(frames), _BATCH)]
    return torch.cat(found)


def error_percent(network: nn.Module, frames: NDArray[np.uint8], labels: NDArray[np.int64]) -> float:
    """Share of frames, in percent, to which the network answers another class than `labels`, int64 `[N]`."""
    wrong = logits_of(network, frames).argmax(1).numpy() != labels
    return 100 * float(wrong.mean())


def example_frames(frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """At most 512 frames, evenly out of all: a set may be sorted by class."""
    places = np.linspace(0, len(frames) - 1, min(_EXAMPLES, len(frames))).round().astype(np.int64)
    return frames[places]
