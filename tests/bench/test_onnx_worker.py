"""The measured process with an onnx job, for real, on a small network: no torch can be imported in it."""

import math
from dataclasses import asdict, replace

import numpy as np
import pytest

from ecotta_rt.bench import measure
from ecotta_rt.bench.bundles import check_bundle
from ecotta_rt.bench.measure import measure_case
from ecotta_rt.bench.recording import Recording, write_recording
from ecotta_rt.bench.results import Failure, Row
from ecotta_rt.bundle import read_bundle
from ecotta_rt.data.stream import Segment
from ecotta_rt.errors import UsageError
from ecotta_rt.runtime.engine import Runtime

MIB = 1024 * 1024


@pytest.fixture(autouse=True)
def no_torch(monkeypatch, without_torch):
    monkeypatch.setattr(measure, "WORKER", without_torch("ecotta_rt.bench.worker"))


def measured(job):
    heard = []
    row = measure_case(job, heard.append)
    assert isinstance(row, Row), row
    return row, heard


@pytest.fixture(scope="module")
def adapted(small_network, without_torch):
    """The row of a step in onnxruntime, and the progress that was heard."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measure, "WORKER", without_torch("ecotta_rt.bench.worker"))
        return measured(small_network.case("ecotta-k4"))


def test_a_step_fills_the_fields_of_a_row(adapted):
    row, _ = adapted

    assert (row.method, row.engine, row.batch, row.normalisation) == ("ecotta-k4", "onnx", 2, "running")
    assert row.frames == 4
    assert set(row.errors) == {"fog", "snow"}
    assert row.ms_per_frame > 0
    assert row.forward_ms_per_frame > 0
    assert row.fits == {}


def test_the_process_is_small_and_its_figures_are_in_order(adapted):
    row, _ = adapted

    assert row.process_baseline_bytes < row.load_peak_bytes
    assert row.process_baseline_bytes < row.process_peak_bytes < 200 * MIB


def test_planned_memory_is_the_manifests(adapted, small_network):
    row, _ = adapted
    manifest = read_bundle(small_network.bundle).manifest
    step = manifest.graph("step-2")

    assert (row.activation_bytes, row.step_peak_bytes) == (step.activation_bytes, step.step_peak_bytes)
    assert row.trainable_parameters == sum(math.prod(array.shape) for array in manifest.layout.parameters)


def test_session_options_tell_how_it_was_run(adapted):
    row, _ = adapted

    assert row.session_options == {
        "threads": 1,
        "optimisation": "all",
        "memory": "arena",
        "graph": "step-2",
        "gradient": "exact",
        "frame_by_frame": "no",
        "allocator": "libc defaults",
    }


def test_progress_is_told_after_each_batch_and_parameters_at_the_end(adapted):
    _, heard = adapted

    assert [progress.frames for progress in heard] == [2, 4, 4]
    assert [progress.parameters for progress in heard] == [None, None, 269_722]


def test_errors_are_those_of_the_runtime_on_the_same_stream(adapted, small_network):
    row, _ = adapted
    recording = Recording(small_network.recording)
    runtime = Runtime.load(small_network.bundle, batch=2)

    wrong = [
        int((runtime(recording.frames(span.start, span.stop)).labels != recording.labels[span.start : span.stop]).sum())
        for span in recording.spans
    ]

    assert [row.errors[name] for name in ("fog", "snow")] == [50.0 * count for count in wrong]


def test_frame_by_frame_learns_from_a_batch_in_the_memory_of_a_frame(adapted, small_network):
    whole, _ = adapted

    row, _ = measured(small_network.case("ecotta-k4", frame_by_frame=True))

    assert row.batch == 2
    assert row.activation_bytes < whole.activation_bytes
    assert row.session_options["graph"] == "accumulate, update"
    assert row.session_options["frame_by_frame"] == "yes"


def test_the_control_that_does_not_adapt_predicts_alone(small_network):
    options = {"optimisation": "extended", "memory_kind": "returning"}

    row, _ = measured(small_network.case("ecotta-k4-warmed", **options))

    assert (row.trainable_parameters, row.activation_bytes) == (0, 0)
    assert row.session_options["graph"] == "observe-2"
    assert (row.session_options["optimisation"], row.session_options["memory"]) == ("extended", "returning")


def test_the_source_network_runs_its_inference_only_graph(small_network):
    row, _ = measured(small_network.case("source", bundle=None))

    assert (row.normalisation, row.trainable_parameters, row.activation_bytes) == ("source", 0, 0)
    assert 0 < row.step_peak_bytes < 4 * MIB


def test_a_stream_of_other_classes_is_refused(small_network, tmp_path):
    write_recording(tmp_path, [Segment("fog", np.zeros((2, 32, 32, 3), np.uint8), np.array([3, 10]))])

    outcome = measure_case(small_network.case("ecotta-k4", recording=str(tmp_path)))

    assert isinstance(outcome, Failure)
    assert outcome.exit_code == 2
    assert "labels up to 10" in outcome.message


def test_a_file_that_is_no_bundle_is_an_error_of_ours(small_network, tmp_path):
    (tmp_path / "net.ecotta").write_bytes(b"not a bundle")

    outcome = measure_case(small_network.case("ecotta-k4", bundle=str(tmp_path / "net.ecotta")))

    assert isinstance(outcome, Failure)
    assert outcome.exit_code == 4
    assert "net.ecotta" in outcome.message


def test_tent_runs_from_a_bundle_that_is_made_for_it(small_network, tmp_path):
    order = replace(small_network.order, warmed=None, normalisation="batch", frame_by_frame=False)
    path = tmp_path / "net.tent.batch.ecotta"
    from ecotta_rt.bench.peers import export_worker

    export_worker.make({"kind": "BundleOrder", "path": str(path), "order": asdict(order)}, lambda message: None)

    check_bundle(path, order)
    row, _ = measured(small_network.case("tent", bundle=str(path), normalisation="batch"))

    norms = [shape.count for shape in read_bundle(path).manifest.layout.parameters]
    assert (row.method, row.engine, row.normalisation) == ("tent", "onnx", "batch")
    assert row.trainable_parameters == sum(norms) == 1376  # 19 norms of a ResNet-20, 688 channels
    assert row.activation_bytes > 0
    with pytest.raises(UsageError, match="it holds tent, and ecotta was asked for"):
        check_bundle(path, replace(order, warmed=str(small_network.warmed)))
    other = tmp_path / "other.safetensors"
    other.write_bytes(small_network.network.read_bytes() + b" ")
    with pytest.raises(UsageError, match="it was not made from .*other.safetensors"):
        check_bundle(path, replace(order, network=str(other)))


def test_a_method_without_a_graph_is_refused(small_network):
    outcome = measure_case(small_network.case("eata"))

    assert isinstance(outcome, Failure)
    assert outcome.exit_code == 2
    assert "eata cannot run in onnxruntime" in outcome.message
