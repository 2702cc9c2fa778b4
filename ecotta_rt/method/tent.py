"""TENT: the scale and shift of every norm learn from the mean entropy of all frames.

The optimiser is SGD with momentum, the authors' choice for ImageNet (step size 0.00025 for 64 frames); for CIFAR they
take Adam, which `ecotta_rt.bench.peers.tent` has.

Source:
    Wang et al. 2021, Tent: Fully Test-Time Adaptation by Entropy Minimization, ICLR, arXiv 2006.10726,
    sections 3 and 4.
"""

from collections.abc import Collection, Mapping

from torch import Tensor

from ecotta_rt.errors import NetworkError
from ecotta_rt.method.base import Loss, Method, Named
from ecotta_rt.method.cut.partition import Partition
from ecotta_rt.method.plain import Plain
from ecotta_rt.method.statistics import Statistics
from ecotta_rt.options import StepOptions

__all__ = ["Tent"]


class Tent(Method):
    """A network whose norms learn. `TENT_STEP` of `ecotta_rt.options` has the authors' step size.

    Args:
        partition: The network, cut into any number of parts; one will do.

    Raises:
        NetworkError: No norm of it has scale and shift.
    """

    name = "tent"
    losses = (Loss("entropy", "kept"),)
    ignores = frozenset(
        {"l1_weight", "l1_gradient", "entropy_margin", "schedule", "recompute_meta", "segment_cells", "keep_parts"}
    )

    def __init__(self, partition: Partition) -> None:
        super().__init__(partition)
        self.set_momenta({})
        if not self.learned_parameters():
            raise NetworkError("the network has no BatchNorm with scale and shift: TENT has nothing to adapt")

    def learned_parameters(self) -> Named:
        """`NORM.weight` and `NORM.bias` of every norm that has them."""
        return {
            f"{name}.{which}": value.detach()
            for name, norm in self.norms().items()
            if norm.affine
            for which, value in (("weight", norm.weight), ("bias", norm.bias))
        }

    def evaluate(
        self,
        form: Plain,
        options: StepOptions,
        parameters: Mapping[str, Tensor],
        statistics: Statistics,
        frames: Tensor,
        wanted: Collection[str] = (),
    ) -> tuple[Tensor, Named]:
        """See `Method`; there is no loss but the entropy."""
        return form.run([*self.frozen_pieces()], frames, statistics, parameters), {}
