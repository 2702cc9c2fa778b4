"""Measure a case over the whole stream, in a fresh process.

A process that has run one method keeps freed memory, warm caches and compiled kernels; the next method would be
measured on top of them. So this side never imports torch: it starts `ecotta_rt.bench.worker`, and reads its lines.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from ecotta_rt.bench.case import Case
from ecotta_rt.bench.child import module_command, started
from ecotta_rt.bench.memory_cage import MemoryCage, limit_in_words
from ecotta_rt.bench.results import Failure, Row
from ecotta_rt.errors import BudgetExceeded

__all__ = ["WORKER", "Seen", "measure_case", "measured"]

WORKER = module_command("ecotta_rt.bench.worker")
"""The command of a measured process."""


@dataclass(frozen=True)
class Seen:
    """How far a method has come.

    Attributes:
        parameters: Parameters of the source network; None while nobody has counted them.
        frames: Frames done.
        wrong: How many of them were predicted wrongly.
    """

    parameters: int | None = None
    frames: int = 0
    wrong: int = 0


def measure_case(
    case: Case, on_progress: Callable[[Seen], None] = lambda seen: None, cage: MemoryCage | None = None
) -> Row | Failure:
    """Run one case in a process of its own, which does not outlive this call: on Ctrl-C it is killed first.

    Args:
        case: What to run.
        on_progress: Called after the network is built and after each batch.
        cage: An open one that the process is to be in until the stream is over; we stay outside.

    Returns:
        The row, with `fits` still empty, or what went wrong.
    """
    outcome = measured(case, on_progress, cage)
    return outcome if isinstance(outcome, Failure) else Row(**outcome)


def measured(
    case: Case, on_progress: Callable[[Seen], None] = lambda seen: None, cage: MemoryCage | None = None
) -> dict[str, Any] | Failure:
    """The same, but the fields of a row, which are others where the case plays a stream."""
    command, way_out = (WORKER, None) if cage is None else (cage.command(WORKER), cage.way_out)
    seen = Seen()
    with started(command, case.threads, case.allocator) as child:
        child.tell(replace(case, way_out=way_out).to_json())
        for message in child.messages():
            if "row" in message:
                row: dict[str, Any] = message["row"]
                return row
            if "error" in message:
                return Failure(case.label, message["error"], message["exit_code"])
            seen = replace(seen, **message)
            on_progress(seen)
        why = child.cause_of_death()
        if cage is not None and cage.held().oom_kills:
            return Failure(case.label, _cause_of_kill(cage, seen.frames), BudgetExceeded.exit_code)
        return Failure(case.label, why, 1)


def _cause_of_kill(cage: MemoryCage, frames: int) -> str:
    peak_bytes = cage.held().peak_bytes
    held = "" if peak_bytes is None else f"; its control group held {peak_bytes / 2**20:.1f} MiB at the most"
    when = f"after {frames} frames" if frames else "before the first batch was done"
    return f"killed at {limit_in_words(cage.limit_bytes)} by the kernel's out-of-memory killer, {when}{held}"
