"""UPEM: rank narrower networks of a bank without labels, by how far their answers are from those of the largest.

    UPEM(widths) = mean over frames of || p(frame; widths) - p(frame; whole) ||_2        lower is better

Norms take the statistics of the frames they are shown, so nothing has to be recalibrated for a candidate.

Source: SlimDA, arXiv 2206.06620, unsupervised performance evaluation metric. Its exact form is not known to us; what it
claims, that it goes with true accuracy, is measured on our own data (docs/results-student.md).
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from ecotta_rt.method.width.groups import Widths
from ecotta_rt.student.slimmable.slimmable import Slimmable

__all__ = ["Upem"]


class Upem:
    """The metric on some frames.

    Args:
        slimmable: The bank.
        frames: float32 `[N, C, H, W]` of the target, in [0, 1]; some hundred.
        batch: Frames that norms take their statistics of.

    Attributes:
        anchor: Answers of the largest, probabilities `[N, K]`.
    """

    def __init__(self, slimmable: Slimmable, frames: Tensor, batch: int = 128) -> None:
        self._slimmable = slimmable
        self._batches: Sequence[Tensor] = torch.split(frames, batch)
        if len(self._batches) > 1 and len(self._batches[-1]) < batch:
            self._batches = self._batches[:-1]
        self.anchor = self.answers(slimmable.groups.whole())

    @torch.no_grad()
    def answers(self, widths: Widths) -> Tensor:
        """Probabilities `[N, K]` at some widths, with all of the network: what it drops in training would be noise."""
        modes = [(module, module.training) for module in self._slimmable.modules()]
        self._slimmable.eval()
        try:
            return torch.cat([self._slimmable(batch, widths).softmax(1) for batch in self._batches])
        finally:
            for module, training in modes:
                module.training = training

    def __call__(self, widths: Widths) -> float:
        """From 0 to the square root of 2."""
        return float((self.answers(widths) - self.anchor).norm(dim=1).mean())
