"""UPEM: rank narrower networks of a bank without labels, by how far their answers are from those of the largest.

    UPEM(widths) = mean over frames of || p(frame; widths) - p(frame; whole) ||_2        lower is better

Norms take the statistics of the frames they are shown, so nothing has to be recalibrated for a candidate.

Source: SlimDA, arXiv 2206.06620, unsupervised performance evaluation metric. Its exact form is not known to us; what it
claims, that it goes with true accuracy, is measured on our own data (docs/results-student.md).
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from ecotta_rt.method.modes import kept_modes
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
        # So convolutions of few channels take a quarter less time.
        self._batches: Sequence[Tensor] = torch.split(frames.contiguous(memory_format=torch.channels_last), batch)
        if len(self._batches) > 1 and len(self._batches[-1]) < batch:
            self._batches = self._batches[:-1]
        self.anchor = self.answers(slimmable.groups.whole())
        self._anchors = torch.split(self.anchor, len(self._batches[0]))
        self._found: dict[tuple[tuple[str, int], ...], list[Tensor]] = {}

    def answers(self, widths: Widths) -> Tensor:
        """Probabilities `[N, K]` at some widths."""
        return torch.cat([self._answer(batch, widths) for batch in self._batches])

    def __call__(self, widths: Widths) -> float:
        """From 0 to the square root of 2."""
        return self._distance(widths, len(self._batches))

    def roughly(self, widths: Widths) -> float:
        """The same by the first batch alone."""
        return self._distance(widths, 1)

    def _distance(self, widths: Widths, batches: int) -> float:
        """Over the first batches; those that were shown to these widths before are not shown again."""
        found = self._found.setdefault(tuple(widths.items()), [])
        for place in range(len(found), batches):
            found.append((self._answer(self._batches[place], widths) - self._anchors[place]).norm(dim=1))
        return float(torch.cat(found[:batches]).mean())

    @torch.no_grad()
    def _answer(self, batch: Tensor, widths: Widths) -> Tensor:
        """With all of the network: what it drops in training would be noise."""
        with kept_modes(self._slimmable):
            self._slimmable.eval()
            answers: Tensor = self._slimmable(batch, widths).softmax(1)
            return answers
