"""EcoTTA: our own method, wrapped so that the benchmark calls it like its peers; and its control that does not adapt.

Source: Song et al. 2023, EcoTTA: Memory-Efficient Continual Test-Time Adaptation via Self-Distilled Regularization,
CVPR, arXiv 2303.01904. The method itself is in `ecotta_rt.method`; `ecotta_rt.options` has its
hyper-parameters.
"""

from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor, nn

from ecotta_rt.bench.peers.peer import Peer
from ecotta_rt.errors import UsageError
from ecotta_rt.method.attach import attach_as
from ecotta_rt.method.cut.partition import partition
from ecotta_rt.method.torch_engine import TorchEngine
from ecotta_rt.options import StepOptions
from ecotta_rt.state import AdaptState

__all__ = ["Ecotta"]


class Ecotta(Peer):
    """Warmed-up meta groups beside a frozen network, adapting or not.

    Args:
        network: See `Peer`.
        parts: K, the number of frozen parts and meta groups.
        warmed: State of the meta groups after warm-up, for this network and this cut.
        frame_shape: `(C, H, W)` of the stream's frames.
        adapting: Off for the control: predict with the warmed-up groups and learn nothing. In `running` normalisation
            the statistics follow the stream all the same.
        frozen_gradient: Overrides that of `step_options`; `constant` has a row of its own in every table.
        step_options: How to adapt.

    Raises:
        UsageError: No `warmed`: fresh meta groups add noise to every feature map, and predictions are worth nothing.
        InputFileError: `warmed` belongs to another network or another cut.
        NetworkError: The network cannot be cut into that many parts.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        parts: int,
        warmed: AdaptState | None,
        frame_shape: tuple[int, ...] = (3, 32, 32),
        adapting: bool = True,
        frozen_gradient: Literal["exact", "constant"] | None = None,
        step_options: StepOptions | None = None,
    ) -> None:
        suffix = "" if frozen_gradient is None else f"-{frozen_gradient}"
        super().__init__(network, f"ecotta-k{parts}{suffix}" if adapting else f"ecotta-k{parts}-warmed")
        options = step_options or StepOptions()
        if frozen_gradient is not None:
            options = replace(options, frozen_gradient=frozen_gradient)
        if warmed is None:
            raise UsageError(f"{self.name} needs warmed-up meta groups; make them with `ecotta prepare`")
        self._adapting = adapting
        pieces = partition(self.network.eval(), torch.zeros(1, *frame_shape), parts)
        self.engine = TorchEngine(attach_as(pieces, warmed), options, warmed)
        self.network = self.engine.network
        self.normalisation = self.engine.options.normalisation
        self.trainable_parameters = self.engine.trainable_parameters if adapting else 0

    def _answer(self, frames: Tensor) -> Tensor:
        return self.engine(frames) if self._adapting else self.engine.predict(frames)

    def _predict(self, frames: Tensor) -> Tensor:
        before = self.engine.state
        logits = self.engine.predict(frames)
        self.engine.restore(before)  # in `running` normalisation the statistics have followed
        return logits

    def reset(self) -> None:
        self.engine.reset()
