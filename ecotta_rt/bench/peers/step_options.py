"""The step of every EcoTTA in the bench, be it run by torch or compiled into a bundle."""

from collections.abc import Mapping
from typing import Any

from ecotta_rt.bench.adaptation import ADAPTATION
from ecotta_rt.options import StepOptions

__all__ = ["step_options"]


def step_options(
    normalisation: str,
    gradient: str,
    *,
    frame_by_frame: bool = False,
    hyperparameters: Mapping[str, float] | None = None,
) -> StepOptions:
    """The options of a contestant.

    Args:
        normalisation: `batch`, `running` or `source`.
        gradient: `exact` or `constant`, through the statistics of the frozen norms.
        frame_by_frame: Whether gradients are accumulated one frame at a time.
        hyperparameters: What is set otherwise than in `ADAPTATION`, by the same names.

    Raises:
        UsageError: A word that is none of these, or `batch` frame by frame.
    """
    # The words come from a command line; StepOptions checks them.
    words: dict[str, Any] = {"normalisation": normalisation, "frozen_gradient": gradient}
    adaptation: dict[str, Any] = {**ADAPTATION, **(hyperparameters or {})}
    return StepOptions(**words, **adaptation, frame_by_frame=frame_by_frame)
