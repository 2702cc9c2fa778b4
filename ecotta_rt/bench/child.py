"""Processes of our own, from the parent's side: start one, talk with it, and say in words what ended it.

They talk in lines of JSON. What the parent says comes on stdin, what the child says on stdout, and nothing else is
there. {"error": "...", "exit_code": n} is an error of ours; anything else is a traceback on stderr.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from ecotta_rt.bench.allocator import ALLOCATORS

__all__ = ["Child", "child_environment", "module_command", "started"]

_PACKAGE_PARENT = Path(__file__).resolve().parents[2]
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_LAST_WORDS = 12  # lines of a crashed process that are shown


class Child:
    """A process that was started, from the parent's side.

    Args:
        process: With pipes for stdin and stdout.
        complaints: What it writes to stderr.
    """

    def __init__(self, process: "subprocess.Popen[str]", complaints: IO[str]) -> None:
        self._process, self._complaints = process, complaints

    def tell(self, line: str) -> None:
        """Send one line of JSON."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:  # it is gone, and the answer that does not come will say so
            return

    def hear(self) -> dict[str, Any] | None:
        """Wait for its next message; None when it has ended, be it in the middle of a line."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        message: dict[str, Any] | None = json.loads(line) if line.endswith("\n") else None
        return message

    def messages(self) -> Iterator[dict[str, Any]]:
        """All that it says until it ends."""
        while (message := self.hear()) is not None:
            yield message

    def wait(self) -> int:
        """Its exit code."""
        return self._process.wait()

    def cause_of_death(self) -> str:
        """What ended it, which gave no result."""
        code = self.wait()
        if code == -signal.SIGKILL:
            return "its process was killed (signal 9), as the kernel does when memory runs out; try a smaller --batch"
        self._complaints.seek(0)
        last_words = "\n".join(self._complaints.read().strip().splitlines()[-_LAST_WORDS:])
        ended = f"signal {-code} ({signal.Signals(-code).name})" if code < 0 else f"exit code {code}"
        return f"its process ended with {ended} and without a result; its last words:\n{last_words or '(none)'}"


@contextmanager
def started(command: Sequence[str], threads: int, allocator: str) -> Iterator[Child]:
    """Start a process that does not outlive the block, whatever ends it.

    Args:
        command: Such as `module_command` gives.
        threads, allocator: See `child_environment`.
    """
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as complaints,
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=complaints,
            text=True,
            env=child_environment(threads, allocator),
        ) as process,
    ):
        try:
            yield Child(process, complaints)
        finally:
            process.kill()  # nothing happens to one that has ended
            assert process.stdin is not None
            with suppress(BrokenPipeError):  # it writes what was told to one that could not read it any more
                process.stdin.close()


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
