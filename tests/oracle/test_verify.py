"""What a bundle's graphs need, worked out a second time: against the exporter's accounting and against a process."""

import json
import subprocess
import sys

import pytest

from ecotta_rt.bundle import read_bundle
from oracle.process import ProcessStart, measure_start
from oracle.verify import verify

START = ProcessStart(imports_bytes=50 << 20, started_bytes=58 << 20)
MODES = ("running", "batch", "source")


@pytest.fixture
def bundle(tiny):
    return lambda mode: read_bundle(tiny.bundle(mode))


@pytest.mark.parametrize("mode", MODES)
def test_tensors_are_as_the_exporter_counted_them(bundle, mode):
    """Two ways to count that share no code; where a nested graph hides tensors from the exporter's, this finds more."""
    opened = bundle(mode)
    for entry in opened.manifest.graphs:
        if entry.kind == "update":
            continue

        found = verify(opened, entry.name, start=START).lives

        nested = entry.name == "step-1-fast"
        assert found.least_bytes <= found.live_bytes <= found.most_bytes
        assert found.live_bytes > entry.step_peak_bytes if nested else found.live_bytes == entry.step_peak_bytes


def test_the_parts_of_a_process_are_what_the_bundle_and_the_engine_hold(bundle, tiny):
    opened = bundle("running")
    manifest = opened.manifest
    parameters, statistics = 4 * manifest.layout.parameter_count, 4 * manifest.layout.statistic_count

    step = verify(opened, "step-4", start=START)
    accumulate = verify(opened, "accumulate", frames=10, start=START)
    predict = verify(opened, "predict-1", start=START)
    observe = verify(opened, "observe-4", start=START)

    pixels = 3 * 8 * 8
    assert step.parts.start == START.started_bytes
    assert step.parts.state == 4 * parameters + (2 + tiny.batch) * statistics
    assert accumulate.parts.state == 8 * parameters + (2 + 1 + 2 * 10) * statistics
    assert predict.parts.state == 2 * parameters + 2 * statistics
    assert observe.parts.state == 2 * parameters + (2 + tiny.batch) * statistics
    assert step.parts.bundle == 2 * parameters + statistics
    assert step.parts.whole == sum(vars(step.parts).values()) - step.parts.relaid
    assert step.parts.frames == tiny.batch * pixels * (4 + 1)
    assert accumulate.parts.frames == pixels * (4 + 10)
    assert 0 < step.parts.relaid <= step.parts.weights <= 2 * manifest.weights_bytes
    assert step.floor_bytes < step.peak_bytes


def test_without_the_blocked_layout_every_weight_is_there_once(bundle):
    plain = verify(bundle("batch"), "step-4", optimisation="extended", start=START)

    assert plain.parts.relaid == 0
    assert plain.parts.weights <= bundle("batch").manifest.weights_bytes


def test_tensors_given_back_at_once_leave_no_holes(bundle):
    kept, returned = (
        verify(bundle("batch"), "step-4", memory=memory, start=START) for memory in ("arena", "returning")
    )

    assert returned.tensors_bytes == returned.lives.most_bytes <= kept.tensors_bytes


def test_those_alive_at_the_peak_are_named_the_largest_first(bundle):
    found = verify(bundle("batch"), "step-4", start=START)

    sizes = [life.size_bytes for life in found.lives.at(found.lives.peak)]
    assert sum(sizes) == found.lives.live_bytes
    assert sizes == sorted(sizes, reverse=True)


def test_a_step_really_takes_more_than_the_floor_and_about_what_is_expected(bundle):
    """In a process of its own, as a device runs it; the bundle is so small that this is about all but its tensors."""
    opened = bundle("batch")
    script = f"""
import json
import numpy as np, onnxruntime
from ecotta_rt.runtime.engine import Runtime
runtime = Runtime.load({str(opened.path)!r})
for _ in range(3):
    runtime(np.zeros((4, 8, 8, 3), np.uint8))
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(json.dumps(1024 * int(status["VmHWM"].split()[0])))
"""
    done = subprocess.run([sys.executable, "-P", "-c", script], capture_output=True, text=True, check=True)
    peak_bytes = json.loads(done.stdout)

    found = verify(opened, "step-4")

    assert found.floor_bytes <= peak_bytes
    assert abs(peak_bytes - found.peak_bytes) <= found.peak_bytes / 4


def test_the_start_of_a_process_is_measured_once():
    start = measure_start()

    assert 10 << 20 < start.imports_bytes < start.started_bytes < 1 << 30
    assert measure_start() is start
