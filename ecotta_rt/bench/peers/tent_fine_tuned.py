"""Control: TENT on a source network that was fine-tuned on the warm-up data.

EcoTTA's warm-up shows labelled, augmented source frames to the meta groups, so part of its lead over TENT may be that
second training and not the adaptation. Here the source network gets the same: the same frames, augmentation, schedule
and number of steps (`ecotta_rt.prepare.warmup.fine_tune`), with all its weights training; then TENT adapts it as usual.
"""

from torch import nn

from ecotta_rt.bench.peers.tent import Tent
from ecotta_rt.errors import UsageError

__all__ = ["tent_fine_tuned"]


def tent_fine_tuned(network: nn.Module, *, fine_tuned: nn.Module | None, learning_rate: float = 1e-3) -> Tent:
    """TENT on `fine_tuned`.

    Args:
        network: The source network, to see that the other is a version of it.
        fine_tuned: The same architecture after `warmup.fine_tune`. Copied; the caller's stays untouched.
        learning_rate: Adam's, as in `Tent`.

    Raises:
        UsageError: No fine-tuned network, or one of another architecture.
    """
    if fine_tuned is None:
        raise UsageError(
            "tent-fine-tuned needs the network fine-tuned on the warm-up data; "
            "make it with ecotta_rt.prepare.warmup.fine_tune"
        )
    if _shapes(fine_tuned) != _shapes(network):
        raise UsageError("the fine-tuned network is not the source network: names or shapes of its parameters differ")
    return Tent(fine_tuned, name="tent-fine-tuned", learning_rate=learning_rate)


def _shapes(network: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(parameter.shape) for name, parameter in network.named_parameters()}
