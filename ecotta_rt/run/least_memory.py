"""Memory that is too little for any run: less than the process holds without a network, or than lets a frame in."""

from importlib import import_module
from typing import TYPE_CHECKING

from ecotta_rt.errors import BudgetExceeded
from ecotta_rt.machine.process_memory import held_memory

if TYPE_CHECKING:
    from ecotta_rt.sinks.tally import Tally

__all__ = ["require_answers", "require_room"]

_MIB = 1 << 20
_MEMORY = ("limit", "control-group", "available", "cannot-load")


def require_room(limit_bytes: int | None) -> None:
    """Refuse a limit that this process is above before any network is loaded: the guard would drop every frame.

    Args:
        limit_bytes: What the process may have; None where nobody has given a limit.

    Raises:
        BudgetExceeded: It is less than interpreter and libraries hold.
    """
    if limit_bytes is None:
        return
    import_module("onnxruntime")  # a part of what there always is
    held = held_memory()
    if held is not None and held.pss_bytes > limit_bytes:
        raise BudgetExceeded(
            f"a limit of {limit_bytes / _MIB:.0f} MiB is below the {held.pss_bytes / _MIB:.0f} MiB that this process "
            "holds before any network is loaded: give more; ecotta plan says what a bundle needs",
            need_bytes=held.pss_bytes,
            limit_bytes=limit_bytes,
            largest_tenant="interpreter and libraries",
        )


def require_answers(tally: "Tally") -> None:
    """Refuse to call a run done in which memory let no frame in.

    Args:
        tally: Of the whole run.

    Raises:
        BudgetExceeded: All frames were dropped, and memory was the reason.
    """
    from ecotta_rt.records import Level

    step = tally.last_step
    if tally.frames or step is None or step.level != Level.DROP or step.why not in _MEMORY:
        return
    raise BudgetExceeded(
        f"no frame was answered, all were dropped ({step}): give more memory, or a bundle that needs less; ecotta "
        "plan says how much",
        need_bytes=step.usage_bytes or 0,
        limit_bytes=step.limit_bytes or 0,
        largest_tenant="",
    )
