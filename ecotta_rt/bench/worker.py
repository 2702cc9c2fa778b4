"""The measured process: reads a job from stdin, answers in JSON lines on stdout.

    {"parameters": P}                               the network is built
    {"frames": n, "wrong": k}                       n frames done, k of them wrong
    {"row": {...}}                                  done; the row without `fits`, which the parent knows
    {"error": "...", "exit_code": n}                an error of ours; anything else is a traceback on stderr

The process is small until it imports torch, and measures itself: nobody else sees its peak at the right moments.
"""

import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from ecotta_rt.bench.job import Job
from ecotta_rt.errors import EXIT_INTERRUPTED, BudgetExceeded, EcottaError

__all__ = ["main"]

Tell = Callable[[Mapping[str, Any]], None]

_NO_ROOM = BudgetExceeded.exit_code


def main() -> int:
    """Run the job on stdin; returns the exit code."""
    tell = _claim_stdout()
    try:
        return _run(Job.from_json(sys.stdin.read()), tell)
    except EcottaError as error:
        tell({"error": str(error), "exit_code": error.exit_code})
        return error.exit_code
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and "can't allocate memory" not in str(error):
            raise
        tell({"error": "the machine has too little memory for it; try a smaller --batch", "exit_code": _NO_ROOM})
        return _NO_ROOM
    except BrokenPipeError:  # the parent is gone: nobody is left to tell
        return EXIT_INTERRUPTED


def _run(job: Job, tell: Tell) -> int:
    from ecotta_rt.bench.peers.runner import run_method  # torch comes in here, after the job has been understood

    tell({"row": asdict(run_method(job, tell))})
    return 0


def _claim_stdout() -> Tell:
    """Keep stdout for our lines alone: whatever a library prints goes to stderr."""
    lines = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def tell(message: Mapping[str, Any]) -> None:
        lines.write(json.dumps(message) + "\n")
        lines.flush()

    return tell


if __name__ == "__main__":
    sys.exit(main())
