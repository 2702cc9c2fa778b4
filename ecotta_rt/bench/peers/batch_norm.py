"""The two things peers do to batch normalisation: use the statistics of the batch, and train scale and shift."""

from collections.abc import Iterator

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ecotta_rt.errors import NetworkError

__all__ = ["affine_parameters", "use_batch_statistics"]


def _named_norms(network: nn.Module) -> Iterator[tuple[str, _BatchNorm]]:
    return ((name, module) for name, module in network.named_modules() if isinstance(module, _BatchNorm))


def use_batch_statistics(network: nn.Module) -> None:
    """Make every batch norm normalise with the current batch, and forget the source statistics.

    The network is in evaluation mode afterwards: without running statistics a norm uses the batch's in either mode,
    and dropout, where a network has some, stays off. The authors of TENT put the whole network in training mode; on
    networks without dropout that is the same.

    Raises:
        NetworkError: The network has no batch norm, so that nothing would adapt.
    """
    network.eval()
    norms = [norm for _, norm in _named_norms(network)]
    if not norms:
        raise NetworkError(
            f"{type(network).__name__} has no BatchNorm layer and this method adapts nothing else; try `source`"
        )
    for norm in norms:
        norm.track_running_stats = False
        norm.running_mean = None
        norm.running_var = None
        norm.num_batches_tracked = None


def affine_parameters(network: nn.Module) -> dict[str, nn.Parameter]:
    """Scale and shift of every batch norm, by name; they alone require a gradient afterwards.

    Raises:
        NetworkError: No batch norm of the network has scale and shift.
    """
    network.requires_grad_(False)
    affine = {
        f"{layer}.{name}".lstrip("."): parameter
        for layer, norm in _named_norms(network)
        for name, parameter in norm.named_parameters(recurse=False)
    }
    if not affine:
        raise NetworkError(
            f"no BatchNorm of {type(network).__name__} has scale and shift (affine=False), so nothing can be trained"
        )
    for parameter in affine.values():
        parameter.requires_grad_(True)
    return affine
