"""Source: the trained network as it is, the control that nothing adapts."""

from torch import Tensor, nn

from ecotta_rt.bench.peers.peer import Peer

__all__ = ["Source"]


class Source(Peer):
    """The network in evaluation mode, with the statistics of its training."""

    normalisation = "source"

    def __init__(self, network: nn.Module, *, name: str = "source") -> None:
        super().__init__(network, name)
        self.network.eval().requires_grad_(False)

    def _answer(self, frames: Tensor) -> Tensor:
        return self._predict(frames)
