"""The measured process for real, on a small network and a few frames."""

import math

import numpy as np
import pytest
import torch

from ecotta_rt.bench import parent
from ecotta_rt.bench.case import Case
from ecotta_rt.bench.measure import measure_case
from ecotta_rt.bench.recording import write_recording
from ecotta_rt.bench.results import Failure, Row
from ecotta_rt.data.stream import Segment
from ecotta_rt.method.attach import attach
from ecotta_rt.method.cut.partition import partition
from ecotta_rt.method.torch_engine import TorchEngine
from ecotta_rt.prepare.checkpoint import load_network, save_network
from ecotta_rt.prepare.networks import build_network

MIB = 1024 * 1024
COUNTS = {"fog": 7, "snow": 9}  # with batches of 4: 4 3, and 4 5, since no frame is left alone


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    """A job for a small network with random weights, its meta groups as they start, and a stream of noise."""
    folder = tmp_path_factory.mktemp("job")
    torch.manual_seed(0)
    save_network(build_network("resnet-20"), folder / "net.safetensors", model="resnet-20")
    pieces = partition(load_network(folder / "net.safetensors"), torch.zeros(1, 3, 32, 32), 4)
    TorchEngine(attach(pieces, 3)).state.save(folder / "net.ecotta-k4.safetensors")
    draws = np.random.default_rng(0)
    (folder / "stream").mkdir()
    write_recording(
        folder / "stream",
        [
            Segment(name, draws.integers(0, 256, (count, 32, 32, 3), np.uint8), draws.integers(0, 10, count))
            for name, count in COUNTS.items()
        ],
    )

    def make(method, **changes):
        values = {
            "network": str(folder / "net.safetensors"),
            "resource": str(folder / "net.ecotta-k4.safetensors") if method.startswith("ecotta") else None,
            "recording": str(folder / "stream"),
            "engine": "torch",
            "batch": 4,
            "normalisation": "batch",
            "allocator": "returning",
            "threads": 1,
        }
        return Case(method=method, **{**values, **changes})

    return make


@pytest.fixture(scope="module")
def tent(job):
    """The row of TENT, and the progress that was heard."""
    heard = []
    row = measure_case(job("tent"), heard.append)
    assert isinstance(row, Row), row
    return row, heard


def test_errors_are_counted_by_corruption_over_every_frame(tent):
    row, heard = tent
    wrong = {name: row.errors[name] * count / 100 for name, count in COUNTS.items()}

    assert row.frames == 16
    assert all(math.isclose(count, round(count)) for count in wrong.values())
    assert math.isclose(row.error_percent, 100 * sum(wrong.values()) / 16)
    assert heard[-1].wrong == round(sum(wrong.values()))


def test_progress_is_told_after_each_batch(tent):
    _, heard = tent

    assert [progress.frames for progress in heard] == [0, 4, 7, 11, 16]
    assert all(progress.parameters == 269_722 for progress in heard)  # a CIFAR ResNet-20 of 10 classes


def test_memory_is_told_at_three_levels(tent):
    row, _ = tent

    assert 0 < row.activation_bytes <= row.step_peak_bytes
    assert row.step_peak_bytes < row.process_baseline_bytes < row.load_peak_bytes
    assert row.process_baseline_bytes < row.process_peak_bytes
    assert row.process_baseline_bytes > 100 * MIB  # torch is in it


def test_times_and_options_are_told(tent):
    row, _ = tent

    assert row.ms_per_frame > 0
    assert row.forward_ms_per_frame > 0
    assert row.trainable_parameters > 0
    assert row.session_options["threads"] == 1
    assert row.session_options["memory_format"] == "channels_last"
    assert "MALLOC_MMAP_THRESHOLD_=1048576" in row.session_options["allocator"]
    assert (row.engine, row.batch, row.normalisation) == ("torch", 4, "batch")


def test_ecotta_is_measured_with_its_options(job):
    hyperparameters = {"lr": 0.01, "l1_weight": 0.1}
    row = measure_case(
        job("ecotta-k4", normalisation="running", gradient="constant", batch=1, hyperparameters=hyperparameters)
    )

    assert isinstance(row, Row), row
    assert row.method == "ecotta-k4"
    assert row.normalisation == "running"
    assert row.session_options["gradient"] == "constant"
    assert {name: row.session_options[name] for name in hyperparameters} == hyperparameters
    assert row.activation_bytes > 0


def test_a_file_that_is_no_network_is_an_error_of_ours(job, tmp_path):
    (tmp_path / "bad.safetensors").write_bytes(b"not a network")

    outcome = measure_case(job("source", network=str(tmp_path / "bad.safetensors")))

    assert isinstance(outcome, Failure)
    assert outcome.exit_code == 4
    assert "bad.safetensors" in outcome.message


def answered(monkeypatch, work):
    """What a child would tell its parent, and its exit code."""
    told = []
    monkeypatch.setattr(parent, "_claim_stdout", lambda: told.append)
    return parent.answer_parent(work), told


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: 9 bytes")])
def test_a_machine_that_is_too_small_is_no_bug_of_ours(monkeypatch, error):
    def work(tell):
        raise error

    code, told = answered(monkeypatch, work)

    assert code == 3
    assert "smaller --batch" in told[0]["error"]


def test_any_other_error_of_a_library_stays_one(monkeypatch):
    with pytest.raises(RuntimeError, match="size"):
        answered(monkeypatch, lambda tell: torch.ones(2) @ torch.ones(3))
