"""BN: normalise with the statistics of the test batch, and learn nothing.

Source: Schneider et al. 2020, Improving robustness against common corruptions by covariate shift adaptation, arXiv
2006.16971, with no source samples mixed in (N = 0); Nado et al. 2020, Evaluating prediction-time batch normalization
for robustness under covariate shift, arXiv 2006.10963.
"""

from torch import nn

from ecotta_rt.bench.peers.peer import use_batch_statistics
from ecotta_rt.bench.peers.source import Source

__all__ = ["BatchNormStatistics"]


class BatchNormStatistics(Source):
    """The network with batch statistics in every batch norm; nothing is carried from one batch to the next."""

    normalisation = "batch"

    def __init__(self, network: nn.Module) -> None:
        super().__init__(network, name="bn")
        use_batch_statistics(self.network)
