"""The parent of a process of ours, from the child's side; light, since a measured process carries it.

They talk in lines of JSON: see `ecotta_rt.bench.child`.
"""

import json
import os
from collections.abc import Callable, Mapping
from typing import Any

from ecotta_rt.errors import EXIT_INTERRUPTED, BudgetExceeded, EcottaError

__all__ = ["Tell", "answer_parent"]

Tell = Callable[[Mapping[str, Any]], None]
"""Sends one message to the parent."""

_OUT_OF_MEMORY = ("can't allocate memory", "Failed to allocate memory", "bad_alloc")  # torch's and onnxruntime's words


def answer_parent(work: Callable[[Tell], None]) -> int:
    """Work in a child and tell the parent how it went; stdout is for our lines alone from now on.

    Returns:
        The exit code.
    """
    tell = _claim_stdout()
    try:
        work(tell)
    except EcottaError as error:
        return _fail(tell, str(error), error.exit_code)
    except (KeyboardInterrupt, BrokenPipeError):  # without a parent nobody is left to tell
        return EXIT_INTERRUPTED
    except Exception as error:
        if not (isinstance(error, MemoryError) or any(words in str(error) for words in _OUT_OF_MEMORY)):
            raise
        return _fail(tell, "the machine has too little memory for it; try a smaller --batch", BudgetExceeded.exit_code)
    return 0


def _fail(tell: Tell, why: str, exit_code: int) -> int:
    tell({"error": why, "exit_code": exit_code})
    return exit_code


def _claim_stdout() -> Tell:
    """Keep stdout for our lines: whatever a library prints goes to stderr."""
    lines = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def tell(message: Mapping[str, Any]) -> None:
        lines.write(json.dumps(message) + "\n")
        lines.flush()

    return tell
