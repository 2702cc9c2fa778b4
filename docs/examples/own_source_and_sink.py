"""A source and a sink of your own: frames from anywhere, answers to anywhere.

python docs/examples/own_source_and_sink.py net.ecotta
"""

import csv
import sys
import time
from collections.abc import Generator

import numpy as np

from ecotta_rt import Runtime
from ecotta_rt.records import Frame
from ecotta_rt.runtime.guard import GuardEvent
from ecotta_rt.runtime.loop import Loop
from ecotta_rt.sinks.json_lines import Answer
from ecotta_rt.sources.source import Item, Refusal


class Slopes:
    """Ten pictures that brighten from left to right. A source iterates, counts what it dropped, and can be closed."""

    dropped = 0

    def __init__(self) -> None:
        self._closed = False

    def __iter__(self) -> Generator[Item, None, None]:
        for index in range(10):
            if self._closed:
                return
            if index == 3:
                yield Refusal(index, "slope 3", "the lens cap was on")  # told and counted; the stream goes on
                continue
            row = np.linspace(0, 25 * (index + 1), 64, dtype=np.uint8)
            pixels = np.broadcast_to(row[None, :, None], (48, 64, 3))  # uint8 [H, W, 3], RGB, of any size
            yield Frame(pixels, index, time.monotonic(), name=f"slope {index}")

    def close(self) -> None:
        """Called from a signal handler or another thread: only leave a note."""
        self._closed = True


class Table:
    """A sink writes answers, refusals, and steps of the guard where it likes."""

    def __init__(self) -> None:
        self._rows = csv.writer(sys.stdout)

    def answer(self, answer: Answer) -> None:
        self._rows.writerow([answer.frame, answer.name, answer.label, f"{answer.probability:.2f}", answer.why])

    def refuse(self, refusal: Refusal) -> None:
        self._rows.writerow([refusal.index, refusal.name, "refused", "", refusal.why])

    def event(self, event: GuardEvent) -> None:
        self._rows.writerow(["", "", "guard", "", event.why])


runtime = Runtime.load(sys.argv[1])
tally = Loop(Slopes(), runtime, Table()).run()
print(tally, file=sys.stderr)
