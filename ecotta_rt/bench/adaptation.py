"""How EcoTTA adapts in the bench, whichever engine runs it, and what of it a command may set otherwise.

The paper's CIFAR protocol, and its learning rate taken as one for 64 frames: see `ecotta_rt.options`.
"""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from ecotta_rt.options import TENT_STEP, StepOptions

__all__ = ["ADAPTATION", "HYPERPARAMETERS", "TENT_ADAPTATION", "step_options"]

_USUAL = StepOptions(lr_batch=64)
_OF_THE_METHOD = (
    *("lr", "lr_batch", "l1_weight", "entropy_margin", "sgd_momentum", "statistics_momentum"),
    *("schedule", "l1_gradient"),
)

ADAPTATION: Mapping[str, Any] = MappingProxyType({name: getattr(_USUAL, name) for name in _OF_THE_METHOD})
"""Option of a step -> its value in every contestant, as a bundle's manifest names them."""

TENT_ADAPTATION: Mapping[str, Any] = MappingProxyType(
    {name: getattr(TENT_STEP, name) for name in ("lr", "lr_batch", "sgd_momentum", "statistics_momentum")}
)
"""The same for a bundle with TENT. Torch's TENT has Adam, as the authors' CIFAR configuration; see there."""

HYPERPARAMETERS: Mapping[str, str] = MappingProxyType({"lr": "--step-lr", "l1_weight": "--l1-weight"})
"""Those that a command may set otherwise, for torch's EcoTTA, and how."""


def step_options(
    normalisation: str,
    gradient: str,
    *,
    frame_by_frame: bool = False,
    hyperparameters: Mapping[str, float] | None = None,
) -> StepOptions:
    """The step of every EcoTTA in the bench, be it run by torch or compiled into a bundle.

    Args:
        normalisation: `batch`, `running` or `source`.
        gradient: `exact` or `constant`, through the statistics of the frozen norms.
        frame_by_frame: Whether gradients are accumulated one frame at a time.
        hyperparameters: What is set otherwise than in `ADAPTATION`, by the same names.

    Raises:
        UsageError: A word that is none of these, or `batch` frame by frame.
    """
    # The words come from a command line; StepOptions checks them.
    words: dict[str, Any] = {"normalisation": normalisation, "frozen_gradient": gradient, **(hyperparameters or {})}
    return replace(_USUAL, frame_by_frame=frame_by_frame, **words)
