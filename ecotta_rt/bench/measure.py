"""Measure methods one after the other, each in a fresh process.

A process that has run one method keeps freed memory, warm caches and compiled kernels; the next method would be
measured on top of them. So this side never imports torch: it starts `ecotta_rt.bench.worker`, and reads its lines.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

from ecotta_rt.bench.allocator import ALLOCATORS
from ecotta_rt.bench.job import Job
from ecotta_rt.bench.results import Failure, Row

__all__ = ["Progress", "measure_method"]

_PACKAGE_PARENT = Path(__file__).resolve().parents[2]
# -P: a torch.py in the user's folder must not be taken for the library.
_WORKER = (sys.executable, "-P", "-m", "ecotta_rt.bench.worker")
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_LAST_WORDS = 12  # lines of a crashed process that are shown


@dataclass(frozen=True)
class Progress:
    """How far a method has come.

    Attributes:
        parameters: Parameters of the source network; None until it is built.
        frames: Frames done.
        wrong: How many of them were predicted wrongly.
    """

    parameters: int | None = None
    frames: int = 0
    wrong: int = 0


def measure_method(job: Job, on_progress: Callable[[Progress], None] = lambda progress: None) -> Row | Failure:
    """Run one job in a process of its own.

    The process does not outlive this call, whatever ends it: on Ctrl-C it is killed before the interrupt goes on.

    Args:
        job: What to run.
        on_progress: Called after the network is built and after each batch.

    Returns:
        The row, with `fits` still empty, or what went wrong.
    """
    with _scratch_file() as order, _scratch_file() as complaints:
        order.write(job.to_json())
        order.seek(0)
        with subprocess.Popen(
            _WORKER, stdin=order, stdout=subprocess.PIPE, stderr=complaints, text=True, env=_environment(job)
        ) as worker:
            try:
                outcome = _listen(worker.stdout or (), job, on_progress)
                code = worker.wait()
            finally:
                worker.kill()  # nothing happens to one that has ended
        return outcome or Failure(job.method, _cause_of_death(code, complaints), 1)


def _scratch_file() -> IO[str]:
    return tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")


def _environment(job: Job) -> dict[str, str]:
    # The very package that runs here, also from a checkout that is not installed.
    paths = [str(_PACKAGE_PARENT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {
        **ALLOCATORS[job.allocator],
        **os.environ,  # over the allocator's: what the user has set is meant
        **{name: str(job.threads) for name in _THREAD_VARIABLES},
        "PYTHONPATH": os.pathsep.join(paths),
    }


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


def _cause_of_death(code: int, complaints: IO[str]) -> str:
    if code == -signal.SIGKILL:
        return "its process was killed (signal 9), as the kernel does when memory runs out; try a smaller --batch"
    complaints.seek(0)
    last_words = "\n".join(complaints.read().strip().splitlines()[-_LAST_WORDS:])
    ended = f"signal {-code} ({signal.Signals(-code).name})" if code < 0 else f"exit code {code}"
    return f"its process ended with {ended} and without a result; its last words:\n{last_words or '(none)'}"
