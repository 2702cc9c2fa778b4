"""How EcoTTA adapts in the bench, whichever engine runs it, and what of it a command may set otherwise.

The paper's CIFAR protocol, and its learning rate taken as one for 64 frames: see `ecotta_rt.options`. Written
down here, since the side that looks for bundles has no torch and cannot ask `StepOptions`.
"""

from collections.abc import Mapping
from types import MappingProxyType

__all__ = ["ADAPTATION", "HYPERPARAMETERS"]

ADAPTATION: Mapping[str, str | int | float] = MappingProxyType(
    {
        "lr": 5e-3,
        "lr_batch": 64,
        "l1_weight": 0.5,
        "entropy_margin": 0.4,
        "sgd_momentum": 0.9,
        "statistics_momentum": 0.01,
        "schedule": "one-step",
        "l1_gradient": "full",
    }
)
"""Option of a step -> its value in every contestant, as a bundle's manifest names them."""

HYPERPARAMETERS: Mapping[str, str] = MappingProxyType({"lr": "--step-lr", "l1_weight": "--l1-weight"})
"""Those that a command may set otherwise, for torch's EcoTTA, and how."""
