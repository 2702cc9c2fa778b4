import json

import pytest

from ecotta_rt.bench.environment import Environment
from ecotta_rt.bench.latency_results import Lap, LatencyReport, Times, make_rows
from ecotta_rt.bench.results import ModelFacts, StreamFacts

FORWARD = Lap("forward", "onnx", "source", (4.0, 8.0, 6.0), 100, {"threads": 1})
STEP = Lap("ecotta-k4", "onnx", "running", (12.0, 16.0, 24.0), 200, {"threads": 1})
TENT = Lap("tent", "torch", "batch", (40.0, 32.0, 36.0), 300, {"threads": 1})

ROW = [
    *("method", "engine", "batch", "threads", "normalisation", "ms_per_frame", "forward_ms_per_frame"),
    *("ratio_to_forward", "ratio_to_tent", "steps", "process_peak_bytes", "session_options"),
]


def test_times_are_of_a_frame_and_ratios_of_one_race():
    _, step, tent = make_rows(2, 1, [FORWARD, STEP, TENT])

    assert step.ms_per_frame == Times(min=6.0, median=8.0)
    assert step.forward_ms_per_frame == 3.0
    assert step.ratio_to_forward == Times(min=3.0, median=16 / 6)
    assert step.ratio_to_tent == Times(min=12 / 32, median=16 / 36)
    assert tent.ratio_to_tent == Times(1.0, 1.0)
    assert step.steps == 3


def test_without_forward_or_tent_there_is_no_ratio():
    (step,) = make_rows(2, 1, [STEP])

    assert (step.forward_ms_per_frame, step.ratio_to_forward, step.ratio_to_tent) == (None, None, None)


def test_tent_in_another_engine_is_not_the_one_that_ratios_are_to():
    (row,) = make_rows(1, 1, [Lap("tent", "onnx", "batch", (1.0,), None, {})])

    assert row.ratio_to_tent is None


def test_who_ran_no_step_has_no_row():
    rows = make_rows(2, 1, [Lap("forward", "onnx", "source", (), None, {}), STEP])

    assert [row.method for row in rows] == ["ecotta-k4"]
    assert rows[0].ratio_to_forward is None


@pytest.fixture
def latency_report():
    return LatencyReport(
        environment=Environment("a processor", 2, 2, {"python": "3.11.7"}, "ab" * 20),
        stream=StreamFacts("fashion-mnist-c", 256, ("gaussian_noise",), 5, "official", 0),
        model=ModelFacts("wrn-40-2", None, "cd" * 32),
        rounds=3,
        rows=make_rows(2, 1, [FORWARD, STEP, TENT]),
    )


def test_the_json_object_has_exactly_the_keys_of_schema_1(latency_report):
    written = json.loads(latency_report.to_json())

    assert list(written) == [
        *("schema", "measured", "environment", "stream", "model", "rounds", "rows", "failures", "left_out", "complete")
    ]
    assert (written["schema"], written["measured"]) == (1, "latency")
    assert list(written["rows"][0]) == ROW
    assert written["rows"][1]["ms_per_frame"] == {"min": 6.0, "median": 8.0}
