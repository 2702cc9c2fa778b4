"""The measured process: reads a job from stdin, answers in JSON lines on stdout.

    {"parameters": P}                               parameters of the source network
    {"frames": n, "wrong": k}                       n frames done, k of them wrong
    {"row": {...}}                                  done; the row without `fits`, which the parent knows
    {"error": "...", "exit_code": n}                an error of ours; anything else is a traceback on stderr

The process is small until it imports torch or, for an onnx job, onnxruntime alone, and measures itself: nobody else
sees its peak at the right moments.
"""

import sys

from ecotta_rt.bench.child_lines import Tell, claim_stdout
from ecotta_rt.bench.job import Job
from ecotta_rt.errors import EXIT_INTERRUPTED, BudgetExceeded, EcottaError

__all__ = ["is_out_of_memory", "main"]

_NO_ROOM = BudgetExceeded.exit_code
_OUT_OF_MEMORY = ("can't allocate memory", "Failed to allocate memory", "bad_alloc")  # torch's and onnxruntime's words


def main() -> int:
    """Run the job on stdin; returns the exit code."""
    tell = claim_stdout()
    try:
        return _run(Job.from_json(sys.stdin.read()), tell)
    except EcottaError as error:
        tell({"error": str(error), "exit_code": error.exit_code})
        return error.exit_code
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # the parent is gone: nobody is left to tell
        return EXIT_INTERRUPTED
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        tell({"error": "the machine has too little memory for it; try a smaller --batch", "exit_code": _NO_ROOM})
        return _NO_ROOM


def is_out_of_memory(error: Exception) -> bool:
    """Whether that is how a library says that the machine has no memory left."""
    return isinstance(error, MemoryError) or any(words in str(error) for words in _OUT_OF_MEMORY)


def _run(job: Job, tell: Tell) -> int:
    if job.engine == "onnx":
        from ecotta_rt.bench.onnx_runner import run_onnx_method  # no torch anywhere below

        tell({"row": run_onnx_method(job, tell)})
        return 0
    from dataclasses import asdict

    from ecotta_rt.bench.peers.runner import run_method  # torch comes in here, after the job has been understood

    tell({"row": asdict(run_method(job, tell))})
    return 0


if __name__ == "__main__":
    sys.exit(main())
