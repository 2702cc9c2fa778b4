import json

from ecotta_rt.bench.memory_cage import CageRecord
from ecotta_rt.bench.results import Enforced, Failure, LatencyRow, Times, compared

# DESIGN's words for the object that others read, and `beside`; none of them may go while the schema is 1.
TOP = ["schema", "environment", "stream", "model", "rows", "beside", "failures", "left_out", "complete"]
ROW = [
    *("method", "engine", "batch", "normalisation", "frames", "error_percent", "errors"),
    *("activation_bytes", "step_peak_bytes", "process_baseline_bytes", "load_peak_bytes", "process_peak_bytes"),
    *("ms_per_frame", "forward_ms_per_frame", "trainable_parameters", "session_options", "fits"),
]


def test_the_json_object_has_exactly_the_keys_of_schema_1(row, report):
    written = json.loads(report(row(fits={"raspberry-pi-4-1gb": True})).to_json())

    assert list(written) == TOP
    assert written["schema"] == 1
    assert list(written["environment"]) == ["cpu", "cores", "threads", "versions", "commit"]
    assert list(written["stream"]) == ["name", "frames", "corruptions", "severity", "order", "seed"]
    assert list(written["model"]) == ["name", "parameters", "digest"]
    assert list(written["rows"][0]) == ROW
    assert written["rows"][0]["fits"] == {"raspberry-pi-4-1gb": True}
    assert written["complete"] is True


def test_a_method_without_a_result_is_in_the_json_too(report):
    written = json.loads(report(failures=(Failure("cotta", "killed", 1),), complete=False).to_json())

    assert written["failures"] == [{"method": "cotta", "message": "killed", "exit_code": 1}]
    assert written["complete"] is False


def test_what_a_device_needs_is_the_larger_of_load_and_run(row):
    assert row(load_peak_bytes=900, process_peak_bytes=800).need_bytes == 900
    assert row(load_peak_bytes=700, process_peak_bytes=800).need_bytes == 800


def test_a_hard_limit_adds_one_key_that_is_not_there_otherwise(row, report):
    held = {"tent": CageRecord(peak_bytes=200, oom_kills=1), "bn": CageRecord(peak_bytes=None, oom_kills=0)}

    written = json.loads(report(row("bn"), enforced=Enforced(200, "my-board", held)).to_json())

    assert list(written) == [*TOP, "enforced"]
    assert written["enforced"] == {
        "limit_bytes": 200,
        "device": "my-board",
        "held": {"tent": {"peak_bytes": 200, "oom_kills": 1}, "bn": {"peak_bytes": None, "oom_kills": 0}},
    }


def lap(method, engine, normalisation, *step_ms):
    times = Times.of([ms / 2 for ms in step_ms])
    return LatencyRow(method, engine, 2, 1, normalisation, times, len(step_ms), 100, {"threads": 1})


FORWARD = lap("forward", "onnx", "source", 4.0, 8.0, 6.0)
STEP = lap("ecotta-k4", "onnx", "running", 12.0, 16.0, 24.0)
TENT = lap("tent", "torch", "batch", 40.0, 32.0, 36.0)

LATENCY_ROW = [
    *("method", "engine", "batch", "threads", "normalisation", "ms_per_frame", "forward_ms_per_frame"),
    *("ratio_to_forward", "ratio_to_tent", "steps", "process_peak_bytes", "session_options"),
]


def test_times_are_of_a_frame_and_ratios_of_one_race():
    _, step, tent = compared([FORWARD, STEP, TENT])

    assert step.ms_per_frame == Times(min=6.0, median=8.0)
    assert step.forward_ms_per_frame == 3.0
    assert step.ratio_to_forward == Times(min=3.0, median=16 / 6)
    assert step.ratio_to_tent == Times(min=12 / 32, median=16 / 36)
    assert tent.ratio_to_tent == Times(1.0, 1.0)
    assert step.steps == 3


def test_without_forward_or_torchs_tent_there_is_no_ratio():
    for row in compared([STEP, lap("tent", "onnx", "batch", 1.0)]):
        assert (row.forward_ms_per_frame, row.ratio_to_forward, row.ratio_to_tent) == (None, None, None)


def test_the_json_object_of_a_race_has_exactly_the_keys_of_schema_1(report):
    rows = compared([FORWARD, STEP, TENT])
    written = json.loads(report(*rows, measured="latency", rounds=3, beside=None).to_json())

    assert list(written) == [
        *("schema", "measured", "environment", "stream", "model", "rounds", "rows", "failures", "left_out", "complete")
    ]
    assert (written["schema"], written["measured"]) == (1, "latency")
    assert list(written["rows"][0]) == LATENCY_ROW
    assert written["rows"][1]["ms_per_frame"] == {"min": 6.0, "median": 8.0}
