"""Whether a run that has ended has done what it was for: answer a frame."""

from typing import TYPE_CHECKING

from ecotta_rt.errors import BudgetExceeded, InputFileError
from ecotta_rt.records import Level

if TYPE_CHECKING:
    from ecotta_rt.sinks.tally import Tally

__all__ = ["require_answers"]

_MEMORY = ("limit", "control-group", "available", "cannot-load")


def require_answers(tally: "Tally", *, stopped: bool = False) -> None:
    """Refuse to call a run done in which no frame was answered, for a reason that is no matter of luck.

    Args:
        tally: Of the whole run.
        stopped: Whether somebody ended it: then answers may have been to come.

    Raises:
        BudgetExceeded: All frames were dropped, and memory was the reason.
        InputFileError: All frames were refused.
    """
    if tally.frames:
        return
    step = tally.last_step
    if step is not None and step.level == Level.DROP and step.why in _MEMORY:
        raise BudgetExceeded(
            f"no frame was answered, all were dropped ({step}): give more memory, or a bundle that needs less; ecotta "
            "plan says how much",
            need_bytes=step.usage_bytes or 0,
            limit_bytes=step.limit_bytes or 0,
            largest_tenant="",
        )
    if tally.refused and not tally.dropped and not stopped:
        count = f"all {tally.refused} were" if tally.refused > 1 else "the only one was"
        raise InputFileError(
            f"no frame was answered: {count} refused, {'at last ' if tally.refused > 1 else ''}{tally.last_refusal}"
        )
