"""How EcoTTA adapts in the bench, whichever engine runs it, and what of it a command may set otherwise."""

from collections.abc import Mapping
from types import MappingProxyType

from ecotta_rt.options import ON_DEVICE

__all__ = ["ADAPTATION", "HYPERPARAMETERS"]

_SAME_EVERYWHERE = (
    *("lr", "lr_batch", "l1_weight", "entropy_margin", "sgd_momentum", "statistics_momentum"),
    *("schedule", "l1_gradient"),
)

ADAPTATION: Mapping[str, str | int | float] = MappingProxyType(
    {name: getattr(ON_DEVICE, name) for name in _SAME_EVERYWHERE}
)
"""Option of a step -> its value in every contestant, as a bundle's manifest names them."""

HYPERPARAMETERS: Mapping[str, str] = MappingProxyType({"lr": "--step-lr", "l1_weight": "--l1-weight"})
"""Those that a command may set otherwise, for torch's EcoTTA, and how."""
