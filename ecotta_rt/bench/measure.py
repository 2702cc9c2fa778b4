"""Measure methods one after the other, each in a fresh process.

A process that has run one method keeps freed memory, warm caches and compiled kernels; the next method would be
measured on top of them. So this side never imports torch: it starts `ecotta_rt.bench.worker`, and reads its lines.
"""

import json
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from ecotta_rt.bench.child_process import cause_of_death, cause_of_kill, child_environment, module_command, scratch_file
from ecotta_rt.bench.job import Job
from ecotta_rt.bench.memory_cage import MemoryCage
from ecotta_rt.bench.results import Failure, Row
from ecotta_rt.errors import BudgetExceeded

__all__ = ["Progress", "measure_method"]

_WORKER = module_command("ecotta_rt.bench.worker")


@dataclass(frozen=True)
class Progress:
    """How far a method has come.

    Attributes:
        parameters: Parameters of the source network; None while nobody has counted them.
        frames: Frames done.
        wrong: How many of them were predicted wrongly.
    """

    parameters: int | None = None
    frames: int = 0
    wrong: int = 0


def measure_method(
    job: Job, on_progress: Callable[[Progress], None] = lambda progress: None, cage: MemoryCage | None = None
) -> Row | Failure:
    """Run one job in a process of its own.

    The process does not outlive this call, whatever ends it: on Ctrl-C it is killed before the interrupt goes on.

    Args:
        job: What to run.
        on_progress: Called after the network is built and after each batch.
        cage: An open one that the process is to be in until the stream is over; we stay outside.

    Returns:
        The row, with `fits` still empty, or what went wrong.
    """
    command = _WORKER if cage is None else cage.command(_WORKER)
    seen = Progress()

    def hear(progress: Progress) -> None:
        nonlocal seen
        seen = progress
        on_progress(progress)

    with scratch_file() as order, scratch_file() as complaints:
        order.write(replace(job, way_out=None if cage is None else cage.way_out).to_json())
        order.seek(0)
        environment = child_environment(job.threads, job.allocator)
        with subprocess.Popen(
            command, stdin=order, stdout=subprocess.PIPE, stderr=complaints, text=True, env=environment
        ) as worker:
            try:
                outcome = _listen(worker.stdout or (), job, hear)
                code = worker.wait()
            finally:
                worker.kill()  # nothing happens to one that has ended
        if outcome is None and cage is not None and cage.held().oom_kills:
            return Failure(job.method, cause_of_kill(cage, seen.frames), BudgetExceeded.exit_code)
        return outcome or Failure(job.method, cause_of_death(code, complaints), 1)


def _listen(lines: Iterable[str], job: Job, on_progress: Callable[[Progress], None]) -> Row | Failure | None:
    progress = Progress()
    for line in lines:
        if not line.endswith("\n"):  # killed in the middle of a line
            break
        message: dict[str, Any] = json.loads(line)
        if "row" in message:
            return Row(**message["row"])
        if "error" in message:
            return Failure(job.method, message["error"], message["exit_code"])
        progress = replace(progress, **message)
        on_progress(progress)
    return None
