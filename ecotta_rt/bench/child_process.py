"""Start processes of our own, and say in words what ended one that gave no result."""

import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import IO

from ecotta_rt.bench.allocator import ALLOCATORS
from ecotta_rt.bench.memory_cage import MemoryCage, limit_in_words

__all__ = ["cause_of_death", "cause_of_kill", "child_environment", "module_command", "scratch_file"]

_PACKAGE_PARENT = Path(__file__).resolve().parents[2]
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_LAST_WORDS = 12  # lines of a crashed process that are shown


def module_command(module: str) -> tuple[str, ...]:
    """The command that runs one of our modules by the interpreter that runs us."""
    # -P: a torch.py in the user's folder must not be taken for the library.
    return (sys.executable, "-P", "-m", module)


def child_environment(threads: int, allocator: str) -> dict[str, str]:
    """Environment variables for a process of ours.

    Args:
        threads: What its numerical libraries are told before they start.
        allocator: One of `ALLOCATORS`.
    """
    # The very package that runs here, also from a checkout that is not installed.
    paths = [str(_PACKAGE_PARENT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {
        **ALLOCATORS[allocator],
        **os.environ,  # over the allocator's: what the user has set is meant
        **{name: str(threads) for name in _THREAD_VARIABLES},
        "PYTHONPATH": os.pathsep.join(paths),
    }


def scratch_file() -> IO[str]:
    """A file without a name, for what a process reads or complains of."""
    return tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")


def cause_of_death(code: int, complaints: IO[str]) -> str:
    """What ended a process that gave no result.

    Args:
        code: Its exit code; negative for the signal that killed it.
        complaints: What it wrote to stderr.
    """
    if code == -signal.SIGKILL:
        return "its process was killed (signal 9), as the kernel does when memory runs out; try a smaller --batch"
    complaints.seek(0)
    last_words = "\n".join(complaints.read().strip().splitlines()[-_LAST_WORDS:])
    ended = f"signal {-code} ({signal.Signals(-code).name})" if code < 0 else f"exit code {code}"
    return f"its process ended with {ended} and without a result; its last words:\n{last_words or '(none)'}"


def cause_of_kill(cage: MemoryCage, frames: int) -> str:
    """What to say of a process that the kernel killed because the limit of its cage was reached.

    Args:
        cage: The cage, still open.
        frames: How many it had answered.
    """
    peak_bytes = cage.held().peak_bytes
    held = "" if peak_bytes is None else f"; its control group held {peak_bytes / 2**20:.1f} MiB at the most"
    when = f"after {frames} frames" if frames else "before the first batch was done"
    return f"killed at {limit_in_words(cage.limit_bytes)} by the kernel's out-of-memory killer, {when}{held}"
