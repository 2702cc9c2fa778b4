"""Reports and rows as `ecotta-bench --memory` makes them, without measuring anything."""

from collections.abc import Callable
from typing import Any

import pytest

from ecotta_rt.bench.environment import Environment
from ecotta_rt.bench.results import ModelFacts, Report, Row, StreamFacts

MIB = 1024 * 1024


def make_row(method: str = "tent", **changes: Any) -> Row:
    values: dict[str, Any] = {
        "method": method,
        "engine": "torch",
        "batch": 64,
        "normalisation": "batch",
        "frames": 384,
        "error_percent": 27.34375,
        "errors": {"fog": 25.0, "snow": 29.6875},
        "activation_bytes": 344 * MIB,
        "step_peak_bytes": 400 * MIB,
        "process_baseline_bytes": 320 * MIB,
        "load_peak_bytes": 330 * MIB,
        "process_peak_bytes": 860 * MIB,
        "ms_per_frame": 15.0,
        "forward_ms_per_frame": 5.0,
        "trainable_parameters": 5408,
        "session_options": {"threads": 2, "memory_format": "channels_last"},
    }
    return Row(**{**values, **changes})


def make_report(*rows: Row, **changes: Any) -> Report:
    values: dict[str, Any] = {
        "environment": Environment("a processor", 2, 2, {"python": "3.11.7", "torch": "2.13.0"}, "ab" * 20),
        "stream": StreamFacts("fashion-mnist-c", 192, ("fog", "snow"), 5, "official", 7),
        "model": ModelFacts("wrn-40-2", 2243546, "cd" * 32),
        "rows": rows,
    }
    return Report(**{**values, **changes})


@pytest.fixture
def row() -> Callable[..., Row]:
    """Makes a row; keywords change fields."""
    return make_row


@pytest.fixture
def report() -> Callable[..., Report]:
    """Makes a report of the given rows; keywords change fields."""
    return make_report
