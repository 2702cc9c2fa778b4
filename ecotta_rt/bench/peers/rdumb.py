"""RDumb: ETA that returns to the source after a fixed number of steps.

Source: Press et al. 2023, RDumb: A simple approach that questions our progress in continual test-time adaptation,
NeurIPS, arXiv 2306.05401, section 4: ETA (EATA without its regulariser), reset every 1,000 steps. The hyper-parameters
of ETA are those of EATA for CIFAR-10. On a stream of fewer than 1,000 batches it is ETA.
"""

from torch import Tensor, nn

from ecotta_rt.bench.peers.eata import Eata

__all__ = ["RDumb"]


class RDumb(Eata):
    """See `Eata`.

    Args:
        network, learning_rate, d_margin: See `Eata`.
        reset_every: Steps from one reset to the next (T).
    """

    def __init__(
        self, network: nn.Module, *, learning_rate: float = 5e-3, d_margin: float = 0.4, reset_every: int = 1000
    ) -> None:
        self._reset_every = reset_every
        super().__init__(network, learning_rate=learning_rate, d_margin=d_margin)
        self.name = "rdumb"

    def _answer(self, frames: Tensor) -> Tensor:
        if self._steps == self._reset_every:
            self.reset()
        self._steps += 1
        return super()._answer(frames)

    def reset(self) -> None:
        super().reset()
        self._steps = 0
