"""Several result files make one table only where one note is true of all."""

import copy
import importlib.util
import json

import pytest


@pytest.fixture
def script(checkout):
    spec = importlib.util.spec_from_file_location("render_results", checkout / "benchmarks" / "render_results.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def made(report, row):
    """What `--json` writes for a run of the device engine."""
    options = {"threads": 1, "graph": "step-1", "optimisation": "all", "memory": "arena"}
    environment = {"cpu": "a processor", "threads": 1, "versions": {"python": "3.11.7", "onnxruntime": "1.31.1"}}
    written = json.loads(json.dumps(report(row("ecotta-k4", engine="onnx", session_options=options)), default=vars))
    return {**written, "environment": environment}


def test_files_of_one_origin_share_a_table_and_a_note(script, made):
    table = script.render({"1.json": made, "2.json": copy.deepcopy(made)})

    assert table.count("| ecotta-k4 |") == 2
    assert table.count("a processor") == 1
    assert "mean of the adapting loop over the median of the fastest inference-only graph" in table


@pytest.mark.parametrize(
    ("where", "change"),
    [
        ("environment", {"cpu": "another"}),
        ("environment", {"versions": {"python": "3.11.7", "onnxruntime": "1.32.0"}}),
        ("stream", {"frames": 8}),
        ("model", {"digest": "00" * 32}),
    ],
)
def test_files_of_different_origins_are_refused_by_name(script, made, where, change):
    other = copy.deepcopy(made)
    other[where].update(change)

    with pytest.raises(ValueError, match=r"1\.json and 2\.json do not belong in one table"):
        script.render({"1.json": made, "2.json": other})
