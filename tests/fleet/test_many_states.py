"""Ten thousand states take no more memory than a thousand, but for what is remembered of each."""

import tracemalloc
from dataclasses import dataclass

import numpy as np
import pytest

from ecotta_rt.fleet.merge import merge
from ecotta_rt.fleet.options import MergeOptions
from fleet.conftest import state

NUMBERS = 8_000
A_STATE_BYTES = 8 << 10
"""What may be remembered of each; its numbers alone take four times as much."""


@dataclass(frozen=True)
class MadeAnew:
    """A state whose bytes are made whenever they are asked for."""

    name: str
    content_of_all: bytes
    start: int
    number: int

    def content(self):
        numbers = np.frombuffer(self.content_of_all, "<f4", NUMBERS, self.start) + np.float32(self.number * 1e-6)
        return self.content_of_all[: self.start] + numbers.tobytes() + self.content_of_all[self.start + 4 * NUMBERS :]

    def part(self, start, stop):
        return self.content()[start:stop]


def fleet(count):
    """Boards whose parameters differ by 1e-6 from one to the next."""
    weights = np.linspace(1, 2, NUMBERS, dtype=np.float32)
    content = state(parameters={"w": weights}, momentum={"w": np.zeros(1, np.float32)}, adaptation={}).to_bytes()
    start = content.index(weights.tobytes())
    return [MadeAnew(f"board-{number}", content, start, number) for number in range(count)]


def peak_bytes(count, options):
    states = fleet(count)
    tracemalloc.start()
    merged = merge(states, options)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(merged.groups[0].members) == count
    return peak, merged.groups[0].state.parameters["w"]


@pytest.mark.slow
@pytest.mark.parametrize("options", [MergeOptions(), MergeOptions(robust=True)], ids=["mean", "robust"])
def test_memory_stays_flat(options):
    small, _ = peak_bytes(1000, options)
    large, merged = peak_bytes(10_000, options)

    assert large - small < 9000 * A_STATE_BYTES
    np.testing.assert_allclose(merged, np.linspace(1, 2, NUMBERS) + 4999.5e-6, atol=1e-5)
