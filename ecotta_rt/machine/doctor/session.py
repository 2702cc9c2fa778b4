"""Check that onnxruntime works, in a child process: an illegal instruction ends it, and no `try` catches that."""

import os
import signal
import subprocess
import sys
from dataclasses import dataclass

from ecotta_rt.machine.doctor.child import STEPS
from ecotta_rt.machine.doctor.finding import Finding, ok, problem, warning
from ecotta_rt.machine.doctor.software import PACKAGES

__all__ = ["Outcome", "check_session", "run_child"]

_ABOUT = "trial run"
_TIMEOUT_S = 120.0
_ROUNDING = 1e-4
_TESTED = next(package.tested[-1] for package in PACKAGES if package.name == "onnxruntime")


@dataclass(frozen=True)
class Outcome:
    """How the child ended.

    Attributes:
        code: Its exit code; minus the signal that ended it; None when it ran out of time.
        output: What it said on stdout, `ecotta_rt.machine.doctor.child`.
        complaint: What it said on stderr.
    """

    code: int | None
    output: str
    complaint: str = ""

    @property
    def results(self) -> dict[str, str]:
        """Step -> its result, of those that ended."""
        words = (line.split(maxsplit=2) for line in self.output.splitlines())
        return {word[1]: word[2] for word in words if len(word) == 3 and word[0] == "end"}

    @property
    def failed_step(self) -> str:
        """The first step without a result; empty where all have one."""
        return next((step for step in STEPS if step not in self.results), "")


def run_child(threads: int, timeout_s: float = _TIMEOUT_S) -> Outcome:
    """Run `ecotta_rt.machine.doctor.child` with this very interpreter.

    Args:
        threads: Threads of the session.
        timeout_s: After so many seconds it is ended.
    """
    command = [sys.executable, "-m", "ecotta_rt.machine.doctor.child", str(threads)]
    # The child must find the packages that we found, wherever they were added.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", env=environment, timeout=timeout_s, check=False
        )
    except subprocess.TimeoutExpired as error:
        said: object = error.stdout  # bytes even in text mode, says the documentation of subprocess
        return Outcome(None, said.decode(errors="replace") if isinstance(said, bytes) else "")
    except OSError as error:
        return Outcome(1, "", f"{sys.executable} cannot be started: {error.strerror or error}")
    return Outcome(done.returncode, done.stdout, done.stderr)


def check_session(outcome: Outcome) -> Finding:
    """What the child's end means."""
    step = outcome.failed_step
    if not step:
        return _judged(outcome)
    if step == "psutil":
        return warning(
            _ABOUT,
            f"onnxruntime works; psutil does not: {_reason(outcome)}",
            "memory is then read from /proc alone; try: pip install --force-reinstall psutil",
        )
    what = {
        "session": "starting a session of a tiny network",
        "run": "running a tiny network",
    }.get(step, f"importing {step}")
    return problem(_ABOUT, f"{what} failed: {_reason(outcome)}", _advice(outcome, step))


def _judged(outcome: Outcome) -> Finding:
    results = outcome.results
    try:
        error = float(results["run"])
    except ValueError:
        error = float("nan")
    if not error <= _ROUNDING:
        return problem(
            _ABOUT,
            f"onnxruntime {results['onnxruntime']} computes wrongly here: a convolution is off by {results['run']}",
            f"pip install 'onnxruntime=={_TESTED}'; if it stays, please report it with the output of --json",
        )
    threads = f"{results['session']} {'thread' if results['session'] == '1' else 'threads'}"
    return ok(_ABOUT, f"onnxruntime {results['onnxruntime']} runs a tiny network on {threads}")


_SIGNALS: dict[int, str] = {
    signal.SIGILL: "an illegal instruction: it was built for a newer processor than this one",
    signal.SIGKILL: "it was killed, most likely because the memory ran out",
    signal.SIGSEGV: "it crashed (segmentation fault)",
    signal.SIGBUS: "it crashed (bus error): a damaged file or a full memory file system",
    signal.SIGABRT: "it gave up (abort)",
}


def _reason(outcome: Outcome) -> str:
    if outcome.code is None:
        return "it took too long and was ended"
    if outcome.code < 0:
        return _SIGNALS.get(-outcome.code, f"it was ended by signal {-outcome.code}")
    lines = [line.strip() for line in outcome.complaint.splitlines() if line.strip()]
    return lines[-1][:300] if lines else f"it ended with code {outcome.code} and no word"


def _advice(outcome: Outcome, step: str) -> str:
    package = step if step in ("numpy", "safetensors") else "onnxruntime"
    reinstall = f"pip install --force-reinstall --no-cache-dir {package}"
    if outcome.code is None:
        return "see whether the machine is swapping or its card is failing: dmesg | tail"
    if outcome.code == -signal.SIGILL:
        known = f"'onnxruntime=={_TESTED}'" if package == "onnxruntime" else f"an older {package}"
        return f"1.21.0 is known for this on ARMv8.0; pip install {known}, and report the board if it stays"
    if outcome.code == -signal.SIGKILL:
        return "free memory or raise the control group's limit: see memory above, and dmesg | tail"
    if "GLIBC" in outcome.complaint:
        return "this system's C library is too old for the wheel: see C library above"
    if "cannot open shared object file" in outcome.complaint:
        return "install the library it names from the system's packages (libstdc++6, libgomp1)"
    if "No module named" in outcome.complaint:
        return f"pip install {package}"
    if "thread" in outcome.complaint.lower():
        return "more threads or processes than are allowed: see ulimit -u, TasksMax= of the service, --pids-limit"
    return reinstall
