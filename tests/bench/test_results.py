import json

from ecotta_rt.bench.memory_cage import CageRecord
from ecotta_rt.bench.results import Enforced, Failure

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
