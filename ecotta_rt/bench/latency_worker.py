"""One contestant of a race: a process that is loaded once, waits, and runs a few steps when it is its turn.

    stdin, first line        a job
    stdout                   {"ready": {"normalisation": ..., "session_options": {...}}}, after one step to warm up
    stdin, for each turn     {"steps": n, "untimed": k}
    stdout                   {"step_ms": [...], "process_peak_bytes": p}
    stdin closed             the end

An error of ours is {"error": "...", "exit_code": n}. Only a torch contestant imports torch.
"""

import json
import sys
import time
from itertools import cycle
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ecotta_rt.bench.allocator import keep_freed_memory
from ecotta_rt.bench.child_lines import Tell, claim_stdout
from ecotta_rt.bench.job import Job
from ecotta_rt.bench.recording import Recording
from ecotta_rt.bench.worker import is_out_of_memory
from ecotta_rt.errors import EXIT_INTERRUPTED, BudgetExceeded, EcottaError, Unavailable
from ecotta_rt.machine.process_memory import peak_resident_bytes, reset_peak

__all__ = ["TimedStep", "main"]

_MOST_BATCHES = 4  # that are held ready


class TimedStep(Protocol):
    """A step that can be timed.

    Attributes:
        normalisation: Statistics its norms use.
        session_options: How it is run.
    """

    normalisation: str
    session_options: dict[str, str | int]

    def prepare(self, frames: NDArray[np.uint8], /) -> Any:
        """Frames `[N, H, W, 3]` as the step wants them; not timed."""

    def __call__(self, prepared: Any, /) -> object:
        """The step."""


def main() -> int:
    """Take part in a race; returns the exit code."""
    tell = claim_stdout()
    try:
        _race(Job.from_json(sys.stdin.readline()), tell)
    except EcottaError as error:
        tell({"error": str(error), "exit_code": error.exit_code})
        return error.exit_code
    except (KeyboardInterrupt, BrokenPipeError):
        return EXIT_INTERRUPTED
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        tell({"error": "the machine has too little memory for all contestants", "exit_code": BudgetExceeded.exit_code})
        return BudgetExceeded.exit_code
    return 0


def _race(job: Job, tell: Tell) -> None:
    keep_freed_memory()
    recording = Recording(job.recording)
    count = min(_MOST_BATCHES, len(recording.labels) // job.batch)
    batches = [recording.frames(i * job.batch, (i + 1) * job.batch) for i in range(count)]
    step = _open(job, batches[0])
    waiting = cycle([step.prepare(batch) for batch in batches])
    step(next(waiting))
    _reset_peak()
    tell({"ready": {"normalisation": step.normalisation, "session_options": step.session_options}})
    for line in sys.stdin:
        order = json.loads(line)
        for _ in range(order["untimed"]):
            step(next(waiting))
        step_ms = [_timed_ms(step, next(waiting)) for _ in range(order["steps"])]
        tell({"step_ms": step_ms, "process_peak_bytes": _peak_bytes()})


def _open(job: Job, frames: NDArray[np.uint8]) -> TimedStep:
    if job.engine == "torch":
        from ecotta_rt.bench.peers.timed_step import open_torch_step  # torch comes in here

        return open_torch_step(job, frames)
    from ecotta_rt.bench.latency_onnx import open_timed_onnx

    return open_timed_onnx(job, frames)


def _timed_ms(step: TimedStep, prepared: Any) -> float:
    start = time.perf_counter()
    step(prepared)
    return 1e3 * (time.perf_counter() - start)


def _reset_peak() -> None:
    try:
        reset_peak()
    except Unavailable:  # times can be had everywhere, memory on Linux
        return


def _peak_bytes() -> int | None:
    try:
        return peak_resident_bytes()
    except Unavailable:
        return None


if __name__ == "__main__":
    sys.exit(main())
