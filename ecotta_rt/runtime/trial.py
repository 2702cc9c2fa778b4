"""Try a bundle in a child process: load it, make one step, and tell what that took.

A graph is a program that onnxruntime's native code runs. Whatever the reader lets through, one that ends the process,
never ends or takes far more memory than it says does so in the child, before the first frame of a stream has come.
"""

import ctypes
import json
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ecotta_rt.errors import BudgetExceeded, EcottaError, InputFileError, UsageError

__all__ = ["TIMEOUT_S", "Trial", "main", "try_bundle"]

TIMEOUT_S = 300.0
"""For loading and one step. A step of 64 frames of WRN-40-2 takes half a minute on a Raspberry Pi Zero 2 W."""

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


@dataclass(frozen=True)
class Trial:
    """What loading a bundle and making one step took.

    Attributes:
        peak_bytes: The most memory the child had in RAM, interpreter included.
        load_ms: Loading, onnxruntime's own start included.
        step_ms: The first step, which is slower than those that follow.
    """

    peak_bytes: int
    load_ms: float
    step_ms: float


def try_bundle(path: str | Path, ways: Mapping[str, Any], *, timeout_s: float = TIMEOUT_S) -> Trial:
    """Load a bundle in a child and let it learn from, or without learning answer, one batch of grey frames.

    Args:
        path: The bundle.
        ways: Keywords of `Runtime.load`, as JSON has them; `options` is what `SessionOptions` takes.
        timeout_s: For all of it.

    Raises:
        InputFileError: The child was ended by a signal or took too long, or what the child raised: the bundle cannot
            be used.
        BudgetExceeded: The step needs more memory than the limit leaves, or the child was killed.
        UsageError: The bundle has no graph for what is asked.
    """
    command = [sys.executable, "-m", "ecotta_rt.runtime.trial", json.dumps({"path": str(path), "ways": dict(ways)})]
    try:
        done = subprocess.run(
            command, capture_output=True, encoding="utf-8", errors="replace", timeout=timeout_s, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise InputFileError(
            f"{path}: tried in a process of its own, it made no step within {timeout_s:g} seconds; was it made for a "
            "faster machine, or to never end?"
        ) from error
    if done.returncode < 0:
        number = -done.returncode
        name = signal.Signals(number).name if number in set(signal.Signals) else str(number)
        ended = f"{path}: tried in a process of its own, one step of it ended that with {name}"
        if number == signal.SIGKILL:
            message = f"{ended}; out of memory?"
            raise BudgetExceeded(message, need_bytes=0, limit_bytes=0, largest_tenant="unknown")
        raise InputFileError(ended)
    try:
        told = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError) as error:
        last = (done.stderr.strip().splitlines() or ["nothing"])[-1][:300]
        raise InputFileError(
            f"{path}: tried in a process of its own, it ended with exit code {done.returncode} and {last!r}"
        ) from error
    if "error" in told:
        raise _raised(told)
    return Trial(**told)


def _raised(told: Mapping[str, Any]) -> EcottaError:
    if told["code"] == BudgetExceeded.exit_code:
        return BudgetExceeded(told["error"], **told["facts"])
    return UsageError(told["error"]) if told["code"] == UsageError.exit_code else InputFileError(told["error"])


def main() -> int:
    """The child: the argument is what to do, the last line of standard output what came of it."""
    request = json.loads(sys.argv[1])
    with suppress(OSError, AttributeError):  # without Linux's C library a child outlives whoever is killed
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    with suppress(OSError):  # where memory ends, this process goes and not the one that asked
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    try:
        told: dict[str, Any] = asdict(_tried(request["path"], request["ways"]))
    except EcottaError as error:
        facts = {k: getattr(error, k) for k in ("need_bytes", "limit_bytes", "largest_tenant") if hasattr(error, k)}
        told = {"error": str(error), "code": error.exit_code, "facts": facts}
    print(json.dumps(told))
    return 0


def _tried(path: str, ways: Mapping[str, Any]) -> Trial:
    import numpy as np

    from ecotta_rt.machine.process_memory import peak_resident_bytes
    from ecotta_rt.options import SessionOptions
    from ecotta_rt.runtime.engine import Runtime

    options = ways.get("options")
    begun_s = time.perf_counter()
    runtime = Runtime.load(path, **{**ways, "options": None if options is None else SessionOptions(**options)})
    loaded_s = time.perf_counter()
    frames = np.full((runtime.batch, *runtime.frame_size, runtime.frame.channels), 128, np.uint8)
    if runtime.graph is not None:
        runtime(frames)
    else:
        runtime.predict(frames)
    return Trial(peak_resident_bytes(), 1000 * (loaded_s - begun_s), 1000 * (time.perf_counter() - loaded_s))


if __name__ == "__main__":
    sys.exit(main())
