"""Memory that is too little for any run: less than the process holds without a network."""

from importlib import import_module

from ecotta_rt.errors import BudgetExceeded
from ecotta_rt.machine.process_memory import held_memory

__all__ = ["require_room"]

_MIB = 1 << 20


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
