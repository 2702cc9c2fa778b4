"""The network of a run and its guard, from the run's options."""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ecotta_rt.errors import BudgetExceeded
from ecotta_rt.machine import vitals
from ecotta_rt.run.least_memory import require_room
from ecotta_rt.run.options import RunOptions
from ecotta_rt.runtime.guard import Guard
from ecotta_rt.runtime.guard_policy import GuardPolicy

if TYPE_CHECKING:
    from ecotta_rt.runtime.engine import Runtime

__all__ = ["guard_of", "load_network"]

Say = Callable[[str], None]


def guard_of(options: RunOptions) -> Guard | None:
    """The guard that a run is to have; None: none.

    Raises:
        BudgetExceeded: The limit is less than any run takes.
    """
    if options.guard == "off":
        return None
    limit_bytes = options.limit_bytes()
    require_room(limit_bytes)
    policy = GuardPolicy(limit_bytes=lambda: limit_bytes)
    if options.max_temperature is not None:
        policy = replace(policy, most_temperature_c=options.max_temperature)
    return Guard(policy, vitals.VitalsReader())


def load_network(options: RunOptions, say: Say) -> "Runtime":
    """The network of a run; a bundle that is new here is tried in a process of its own first.

    Args:
        options: What is asked for.
        say: Tells people something in a line.

    Raises:
        EcottaError: It cannot be read, opened or run.
    """
    ways = options.ways()
    if options.trial != "off":
        _try(options, ways, say)  # before this process has loaded anything itself
    from ecotta_rt.runtime.engine import Runtime

    return Runtime.load(options.bundle, **ways)


def _try(options: RunOptions, ways: dict[str, Any], say: Say) -> None:
    """See that a bundle which is new here can be run; that it lacks memory is for the guard."""
    from ecotta_rt.runtime.trial import try_bundle
    from ecotta_rt.runtime.tried import try_once

    try:
        (try_bundle if options.trial == "always" else try_once)(options.bundle, ways)
    except BudgetExceeded as error:
        if options.guard == "off":
            raise
        say(f"warning: {error}")
