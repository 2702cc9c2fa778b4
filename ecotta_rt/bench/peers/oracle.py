"""The oracle: EcoTTA's meta groups learning on line from the true labels.

No method and no peer: it shows how much there is to be had by learning in these groups at all. Each batch is answered
first, then the groups take one Adam step on the cross-entropy of its labels. Norms use the same statistics as EcoTTA
in the same normalisation.
"""

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ecotta_rt.bench.peers.ecotta import Ecotta
from ecotta_rt.bench.peers.peer import LabelledPeer
from ecotta_rt.options import StepOptions
from ecotta_rt.state import AdaptState

__all__ = ["Oracle"]

_LR_BATCH = 64


class Oracle(Ecotta, LabelledPeer):
    """See `Ecotta` for the network, its groups and how it answers.

    Args:
        network, parts, warmed, frame_shape: See `Ecotta`.
        learning_rate: Adam's, for 64 frames; for fewer as much less.
        step_options: Normalisation and statistics are taken from it, nothing else.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        parts: int,
        warmed: AdaptState | None,
        frame_shape: tuple[int, ...] = (3, 32, 32),
        learning_rate: float = 1e-3,
        step_options: StepOptions | None = None,
    ) -> None:
        super().__init__(
            network, parts=parts, warmed=warmed, frame_shape=frame_shape, adapting=False, step_options=step_options
        )
        self.name = f"oracle-k{parts}"
        self.trainable_parameters = self.engine.trainable_parameters
        self._learning_rate = learning_rate
        named = dict(self.network.named_parameters())
        self._learning = {name: named[name] for name in self.engine.state.parameters}
        self.reset()

    def _answer(self, frames: Tensor) -> Tensor:
        self._frames = frames
        return super()._answer(frames)

    def teach(self, labels: Tensor) -> None:
        known = labels >= 0
        if not bool(known.any()):
            return
        self._take_statistics()
        with torch.enable_grad():
            logits = self.network(self._frames)
            torch.autograd.backward(F.cross_entropy(logits[known], labels[known]))
        for group in self._optimiser.param_groups:
            group["lr"] = self._learning_rate * len(labels) / _LR_BATCH
        self._optimiser.step()
        self._optimiser.zero_grad()
        learnt = {name: parameter.detach().numpy().copy() for name, parameter in self._learning.items()}
        self.engine.restore(replace(self.engine.state, parameters=learnt))

    @torch.no_grad()
    def reset(self) -> None:
        super().reset()
        for name, values in self.engine.state.parameters.items():
            self._learning[name].copy_(torch.from_numpy(values))
        self._optimiser = torch.optim.Adam(self._learning.values(), self._learning_rate, betas=(0.9, 0.999))
        self._optimiser.zero_grad()

    @torch.no_grad()
    def _take_statistics(self) -> None:
        """Give the modules' norms those that the answers were made with; of the batch they take themselves."""
        if self.normalisation == "batch":
            return
        statistics = self.engine.state.statistics
        for name, norm in self.engine.network.norms().items():
            if f"{name}.mean" not in statistics:
                continue  # held: a constant
            norm.eval()
            norm.running_mean = torch.from_numpy(statistics[f"{name}.mean"])
            norm.running_var = torch.from_numpy(statistics[f"{name}.variance"])
