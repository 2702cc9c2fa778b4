"""A race: contestants that are loaded side by side, each in its own process, and run a few steps in turns.

    A B C D   A B C D   A B C D ...

One measured after the other, the first might have had the machine to itself and the last shared it. In turns, whatever
slows the machine down for a while slows all of them, and ratios stay.
"""

import json
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from ecotta_rt.bench.child_process import cause_of_death, child_environment, module_command, scratch_file
from ecotta_rt.bench.job import Job
from ecotta_rt.bench.latency_contestants import Contestant
from ecotta_rt.bench.latency_results import Lap
from ecotta_rt.bench.results import Failure

__all__ = ["Race", "Racer", "steps_a_turn"]

_WORKER = module_command("ecotta_rt.bench.latency_worker")
_TURN_FRAMES = 8


def steps_a_turn(batch: int) -> tuple[int, int]:
    """How many steps of a turn are timed, and how many before them are not.

    A short step suffers when others have just used the caches, which on a device it does not; so some are run, and the
    first is not counted. A long one does not notice.
    """
    return (_TURN_FRAMES, 1) if batch < _TURN_FRAMES else (1, 0)


class Racer:
    """One contestant and its process.

    Args:
        contestant: Who.
        job: What its process is told to load.
        process: Where to write orders to and read answers from.
        complaints: What it writes to stderr.

    Attributes:
        failure: Why it has left the race; None while it is in it.
    """

    def __init__(self, contestant: Contestant, job: Job, process: "subprocess.Popen[str]", complaints: Any) -> None:
        self.contestant = contestant
        self.failure: Failure | None = None
        self._process, self._complaints = process, complaints
        self._step_ms: list[float] = []
        self._normalisation, self._options = job.normalisation, dict[str, str | int]()
        self._peak: int | None = None
        self._send(job.to_json())

    def await_ready(self) -> None:
        """Wait until it is loaded."""
        answer = self._answer()
        if answer is not None:
            self._normalisation = answer["ready"]["normalisation"]
            self._options = answer["ready"]["session_options"]

    def take_turn(self, steps: int, untimed: int) -> None:
        """Let it run its steps, and wait for it."""
        self._send(json.dumps({"steps": steps, "untimed": untimed}))
        answer = self._answer()
        if answer is not None:
            self._step_ms += answer["step_ms"]
            self._peak = answer["process_peak_bytes"]

    def lap(self) -> Lap:
        """What it has done so far."""
        who = self.contestant
        return Lap(who.name, who.engine, self._normalisation, tuple(self._step_ms), self._peak, self._options)

    def _send(self, line: str) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:  # it is gone, and the answer that does not come will say so
            return

    def _answer(self) -> Mapping[str, Any] | None:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line.endswith("\n"):
            self._leave(cause_of_death(self._process.wait(), self._complaints), 1)
            return None
        message: dict[str, Any] = json.loads(line)
        if "error" in message:
            self._leave(message["error"], message["exit_code"])
            return None
        return message

    def _leave(self, why: str, exit_code: int) -> None:
        self.failure = Failure(self.contestant.label, why, exit_code)


class Race:
    """Contestants of one batch size and one number of threads.

    Args:
        batch: Frames a step.
        threads: Threads of each process.

    Attributes:
        batch: As given.
        threads: As given.
        racers: In the order of their turns; those that have failed among them.
        complete: Whether every contestant has had all its turns.
    """

    def __init__(self, batch: int, threads: int) -> None:
        self.batch, self.threads = batch, threads
        self.racers: list[Racer] = []
        self.complete = False

    @property
    def name(self) -> str:
        """For people."""
        return f"batch {self.batch}, {self.threads} thread{'' if self.threads == 1 else 's'}"

    def run(
        self,
        jobs: Sequence[tuple[Contestant, Job]],
        rounds: int,
        on_loading: Callable[[Contestant], None],
        on_round: Callable[[int], None],
    ) -> None:
        """Race. No process outlives this call, whatever ends it.

        Args:
            jobs: Contestants and what each is told.
            rounds: Turns for each; some have fewer.
            on_loading: Hears who is loaded next.
            on_round: Hears how many rounds are done.
        """
        steps, untimed = steps_a_turn(self.batch)
        with ExitStack() as processes:
            for contestant, job in jobs:
                on_loading(contestant)
                racer = processes.enter_context(_started(contestant, job))
                self.racers.append(racer)
                racer.await_ready()  # one after the other: loading disturbs who is being loaded
            for done in range(rounds):
                for racer in self.racers:
                    if racer.failure is None and done < racer.contestant.rounds(rounds):
                        racer.take_turn(steps, untimed)
                on_round(done + 1)
        self.complete = all(racer.failure is None for racer in self.racers)


@contextmanager
def _started(contestant: Contestant, job: Job) -> Iterator[Racer]:
    environment = child_environment(job.threads, job.allocator)
    with (
        scratch_file() as complaints,
        subprocess.Popen(
            _WORKER, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=complaints, text=True, env=environment
        ) as process,
    ):
        try:
            yield Racer(contestant, job, process, complaints)
        finally:
            process.kill()
