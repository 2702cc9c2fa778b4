"""A race: cases that are loaded side by side, each in its own process, and run a few steps in turns.

    A B C D   A B C D   A B C D ...

One measured after the other, the first might have had the machine to itself and the last shared it. In turns, whatever
slows the machine down for a while slows all of them, and ratios stay.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

from ecotta_rt.bench.case import Case
from ecotta_rt.bench.child import Child, started
from ecotta_rt.bench.measure import WORKER
from ecotta_rt.bench.results import Failure, LatencyRow, Times, compared

__all__ = ["Race", "Racer", "steps_a_turn"]

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
        case: What its process is told to load.
        child: The process.

    Attributes:
        case: As given.
        failure: Why it has left the race; None while it is in it.
        step_ms: Wall time of each step that was timed.
    """

    def __init__(self, case: Case, child: Child) -> None:
        self.case = case
        self.failure: Failure | None = None
        self.step_ms: list[float] = []
        self._child = child
        self._ready: Mapping[str, Any] = {}
        self._peak: int | None = None
        child.tell(case.to_json())

    def await_ready(self) -> None:
        """Wait until it is loaded."""
        self._ready = self._answer().get("ready", {})

    def take_turn(self, steps: int, untimed: int) -> None:
        """Let it run its steps, and wait for it."""
        self._child.tell(json.dumps({"steps": steps, "untimed": untimed}))
        answer = self._answer()
        self.step_ms += answer.get("step_ms", [])
        self._peak = answer.get("process_peak_bytes", self._peak)

    def row(self) -> LatencyRow | None:
        """What it has done so far, compared with nobody; None without a single step."""
        case = self.case
        if not self.step_ms:
            return None
        return LatencyRow(
            method=case.name,
            engine=case.engine,
            batch=case.batch,
            threads=case.threads,
            normalisation=self._ready["normalisation"],
            ms_per_frame=Times.of([ms / case.batch for ms in self.step_ms]),
            steps=len(self.step_ms),
            process_peak_bytes=self._peak,
            session_options=self._ready["session_options"],
        )

    def _answer(self) -> Mapping[str, Any]:
        message = self._child.hear()
        if message is not None and "error" not in message:
            return message
        why, code = (self._child.cause_of_death(), 1) if message is None else (message["error"], message["exit_code"])
        self.failure = Failure(self.case.label, why, code)
        return {}


class Race:
    """Cases of one batch size and one number of threads.

    Args:
        cases: Who takes part, in the order of their turns.

    Attributes:
        racers: Those that were started; those that have failed among them.
        complete: Whether every one has had all its turns.
    """

    def __init__(self, cases: Sequence[Case]) -> None:
        self._cases = cases
        self.racers: list[Racer] = []
        self.complete = False

    @property
    def name(self) -> str:
        """For people."""
        first = self._cases[0]
        return f"batch {first.batch}, {first.threads} thread{'' if first.threads == 1 else 's'}"

    def run(self, rounds: int, on_loading: Callable[[str], None], on_round: Callable[[int], None]) -> None:
        """Race. No process outlives this call, whatever ends it.

        Args:
            rounds: Turns for each; some have fewer.
            on_loading: Hears, in words, who is loaded next.
            on_round: Hears how many rounds are done.
        """
        steps, untimed = steps_a_turn(self._cases[0].batch)
        with ExitStack() as processes:
            for case in self._cases:
                on_loading(f"{self.name}: loading {case.label}")
                child = processes.enter_context(started(WORKER, case.threads, case.allocator))
                self.racers.append(Racer(case, child))
                self.racers[-1].await_ready()  # one after the other: loading disturbs who is being loaded
            for done in range(rounds):
                for racer in self.racers:
                    if racer.failure is None and done < racer.case.rounds(rounds):
                        racer.take_turn(steps, untimed)
                on_round(done + 1)
        self.complete = not self.failures()

    def rows(self) -> tuple[LatencyRow, ...]:
        """One for each that ran a step, compared with inference alone and with TENT."""
        return compared([row for racer in self.racers if (row := racer.row()) is not None])

    def failures(self) -> list[Failure]:
        """Why some have left the race."""
        return [racer.failure for racer in self.racers if racer.failure is not None]
