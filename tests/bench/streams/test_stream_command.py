"""`ecotta-bench --stream`, with a few lines of Python in place of the measured processes."""

import dataclasses
import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ecotta_rt.bench import measure
from ecotta_rt.bench.streams.results import StreamsFile, read_report
from ecotta_rt.cli import bench
from ecotta_rt.errors import EXIT_INTERRUPTED, InputFileError

# Answers every frame rightly, but the first of the stream; as another answer nothing but 0.
WORKER = """
import json, os, sys
import numpy as np
from ecotta_rt.bench.case import Case
from ecotta_rt.bench.recording import Recording, told_answers

case = Case.from_json(sys.stdin.readline())
with open(os.environ["PLAYED"], "a") as played:
    print(case.method, case.engine, case.batch, case.seed, file=played)
if case.method == os.environ.get("FAILS"):
    sys.exit("no luck")
recording = Recording(case.recording)
right = recording.labels.astype(np.int16)
right[0] += 1
print(json.dumps({"frames": 3, "wrong": 1}))
answers = {"unfiltered": told_answers(right), "filtered": told_answers(np.zeros_like(right))}
print(json.dumps({"row": {
    "method": case.method, "engine": case.engine, "batch": case.batch, "normalisation": case.normalisation,
    "frames": len(right), "answers": answers, "ms_per_frame": 2.0, "forward_ms_per_frame": 1.0,
    "activation_bytes": 2**20, "step_peak_bytes": 2**21, "process_baseline_bytes": 2**25, "load_peak_bytes": 2**26,
    "process_peak_bytes": 2**27, "trainable_parameters": 3,
    "session_options": {"threads": case.threads, **({"lr": case.learning_rate} if case.learning_rate else {})}}}))
"""

SMALL = ("--corruptions", "brightness,contrast", "--frames", "8")


@pytest.fixture
def played(tmp_path, checkout, monkeypatch):
    """The embedded images, an empty file where a network should be, a stand-in for processes; what it was told."""
    assets = tmp_path / "assets"
    (assets / "networks").mkdir(parents=True)
    (assets / "data").symlink_to(checkout / "benchmarks" / "data")
    (assets / "networks" / "wrn-40-2-fashion-mnist.safetensors").touch()
    monkeypatch.setenv("ECOTTA_ASSETS", str(assets))
    monkeypatch.setenv("ECOTTA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PLAYED", str(tmp_path / "played"))
    monkeypatch.setattr(measure, "WORKER", (sys.executable, "-c", WORKER))
    return lambda: (tmp_path / "played").read_text().splitlines() if (tmp_path / "played").exists() else []


def run(capsys, *arguments):
    code = bench.main(["--stream", *arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_with_two_views_inference_alone_and_peers_run_in_torch_and_rows_say_so(played, capsys):
    code, _, err = run(capsys, "continual", *SMALL, "--methods", "source,rotta", "--views", "2", "--batch", "64")

    assert code == 0
    assert [line.split()[:3] for line in played()] == [["source", "torch", "64"], ["rotta", "torch", "64"]]
    assert "rotta torch, batch 64, 2 views" in err


def test_a_peer_with_a_step_size_of_its_own_has_a_row_of_its_own(played, capsys, tmp_path):
    words = ("continual", *SMALL, "--methods", "tent,eata", "--batch", "64", "--json", str(tmp_path / "streams.json"))
    run(capsys, *words)

    code, _, err = run(capsys, *words, "--peer-lr", "eata=0.02")

    assert code == 0
    assert [line.split()[0] for line in played()] == ["tent", "eata", "eata"], "tent was there"
    assert "eata torch, batch 64, lr 0.02" in err
    rows = read_report(tmp_path / "streams.json").rows
    assert [row.label for row in rows] == ["tent torch 64", "eata torch 64", "eata torch 64 lr 0.02"]


@pytest.mark.parametrize("words", ["tent", "tent=much", "tent=0.1,eata", "tent=0.1,tent=0.2"])
def test_a_step_size_that_is_none_is_refused(words, played, capsys):
    code, out, err = run(capsys, "continual", *SMALL, "--peer-lr", words)

    assert (code, out) == (2, "")
    assert f"{words!r}: expected METHOD=STEP" in err


def test_every_stream_is_played_to_every_case_that_can_be(played, capsys, tmp_path):
    target = tmp_path / "streams.json"
    code, out, err = run(
        capsys, "continual,sorted", *SMALL, "--methods", "tent,bn", "--seeds", "0,1", "--json", str(target)
    )

    rows = read_report(target).rows
    assert code == 0
    assert [(row.protocol, row.seed, row.method, row.batch) for row in rows] == [
        (protocol, seed, method, 64)
        for seed in (0, 1)
        for protocol in ("continual", "sorted")
        for method in ("tent", "bn")
    ]
    assert {row.answers["unfiltered"].error_percent for row in rows} == {6.25}
    assert len({row.stream for row in rows}) == 4
    assert "tent torch, batch 1 is left out: it uses the statistics of the batch" in err
    assert "8/8  sorted, seed 1: bn torch, batch 64  unfiltered 6.25 %" in err
    assert "6.2 +- 0.0" in out


def test_a_method_of_which_a_file_is_missing_is_left_out_and_said_and_the_others_play(played, checkout, capsys):
    groups = "wrn-40-2-fashion-mnist.ecotta-k4.safetensors"
    named = ("continual", *SMALL, "--methods", "bn,ecotta-k4-followed", "--batch", "64")

    code, _, err = run(capsys, *named)
    assert code == 0 and played() == ["bn torch 64 0"]
    assert "ecotta-k4-followed onnx running, batch 64 is left out: " in err and f"{groups} is missing" in err

    there = Path(os.environ["ECOTTA_ASSETS"]) / "networks" / groups
    there.symlink_to(checkout / "benchmarks" / "networks" / groups)
    code, _, err = run(capsys, *named)
    assert code == 0 and played() == ["bn torch 64 0"] * 2
    assert "wrn-40-2-fashion-mnist.ecotta is missing: it says by which rule" in err

    assert run(capsys, "continual", *SMALL, "--methods", "ecotta-k4-followed")[0] == 69


def test_what_is_in_the_file_is_not_measured_again(played, capsys, tmp_path):
    options = (*SMALL, "--methods", "tent", "--json", str(tmp_path / "streams.json"))
    run(capsys, "continual", *options)
    first = (tmp_path / "streams.json").read_text()

    run(capsys, "continual", *options)
    assert (tmp_path / "streams.json").read_text() == first
    run(capsys, "continual", *options, "--seeds", "0,1")

    assert played() == ["tent torch 64 0", "tent torch 64 1"]
    assert len(read_report(tmp_path / "streams.json").rows) == 2


@pytest.mark.parametrize("keep", [False, True])
def test_rows_of_other_code_are_measured_again_unless_they_are_to_be_kept(played, capsys, tmp_path, keep):
    options = (*SMALL, "--methods", "tent", "--json", str(tmp_path / "streams.json"))
    run(capsys, "continual", *options)
    found = json.loads((tmp_path / "streams.json").read_text())
    found["rows"][0]["made"] = "other"
    (tmp_path / "streams.json").write_text(json.dumps(found))

    run(capsys, "continual", *options, *(["--keep"] if keep else []))

    assert len(played()) == (1 if keep else 2)
    assert len(read_report(tmp_path / "streams.json").rows) == 1


def test_rows_of_other_frames_are_kept_and_have_tables_of_their_own(played, capsys, tmp_path):
    options = ("continual", "--corruptions", "contrast", "--methods", "tent", "--json", str(tmp_path / "streams.json"))
    run(capsys, *options, "--frames", "8")

    _, out, _ = run(capsys, *options, "--frames", "4", "--seed", "1")

    assert [(row.frames_each, row.seed) for row in read_report(tmp_path / "streams.json").rows] == [(8, 0), (4, 1)]
    assert out.index("1 corruptions x 8 frames") < out.index("1 corruptions x 4 frames")
    assert "+-" not in out.partition("error:")[0]


def test_two_processes_may_write_one_file(played, capsys, tmp_path):
    target = tmp_path / "streams.json"
    run(capsys, "continual", *SMALL, "--methods", "tent", "--json", str(target))
    (row,) = read_report(target).rows
    file = StreamsFile(target, read_report(target).subject)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda seed: file.add(dataclasses.replace(row, seed=seed)), range(12)))

    assert sorted(row.seed for row in read_report(target).rows) == list(range(12))
    assert not list(tmp_path.glob(".streams*"))


def test_a_case_that_fails_does_not_stop_the_others_and_is_tried_again(played, capsys, monkeypatch, tmp_path):
    options = ("continual", *SMALL, "--methods", "tent,bn", "--json", str(tmp_path / "streams.json"))
    monkeypatch.setenv("FAILS", "tent")
    code, out, _ = run(capsys, *options)
    assert code == 1
    assert "no luck" in out
    monkeypatch.delenv("FAILS")

    code, _, _ = run(capsys, *options)

    assert code == 0
    assert [line.split()[0] for line in played()] == ["tent", "bn", "tent"]


def test_ctrl_c_keeps_what_is_done(played, capsys, monkeypatch, tmp_path):
    from ecotta_rt.bench.streams import run as running

    measured = running.measured

    def interrupted(case, on_progress):
        if case.method == "bn":
            raise KeyboardInterrupt
        return measured(case, on_progress)

    monkeypatch.setattr(running, "measured", interrupted)

    code, _, err = run(capsys, "continual", *SMALL, "--methods", "tent,bn", "--json", str(tmp_path / "streams.json"))

    assert code == EXIT_INTERRUPTED
    assert "interrupted, rows that are there: 1" in err
    assert len(read_report(tmp_path / "streams.json").rows) == 1


def test_a_step_with_two_answers_has_an_error_of_each(played, capsys, tmp_path):
    plot = tmp_path / "plot.svg"
    code, out, _ = run(capsys, "sudden", *SMALL, "--methods", "tent", "--json", "--plot", str(plot))

    (row,) = json.loads(out)["rows"]
    assert code == 0
    assert row["answers"]["unfiltered"]["error_percent"] == 6.25
    assert row["answers"]["filtered"]["error_percent"] > 50
    assert plot.read_text().startswith("<?xml")


def test_a_file_about_another_network_is_refused(played, capsys, tmp_path):
    options = (*SMALL, "--methods", "tent", "--json", str(tmp_path / "streams.json"))
    run(capsys, "continual", *options)
    found = json.loads((tmp_path / "streams.json").read_text())
    (tmp_path / "streams.json").write_text(json.dumps(found | {"network": "resnet-56"}))

    code, _, err = run(capsys, "continual", *options)

    assert code == 2
    assert "it is about resnet-56 on fashion-mnist-c" in err
    (tmp_path / "streams.json").write_text("{}")
    with pytest.raises(InputFileError, match="not what ecotta-bench --stream wrote"):
        read_report(tmp_path / "streams.json")


def test_a_mistake_is_one_line_and_an_exit_code(played, capsys, tmp_path, subtests):
    for arguments, code, message in [
        (("continuall",), 2, "did you mean continual?"),
        (("continual", "--methods", "tnet"), 2, "did you mean tent?"),
        (("continual", "--engine", "onnx", "--methods", "eata"), 2, "use --engine torch"),
        (("continual", "--methods", "tent", "--batch", "1"), 2, "a single frame has none"),
        (("continual", "--rounds", "3"), 2, "--rounds: only for --latency"),
        (("continual", "--enforce", "512MB"), 2, "--enforce: only for --memory"),
        (("continual", "--step-lr", "1", "--methods", "ecotta-k4"), 2, "--step-lr is for --engine torch"),
        (("continual", "--threads", "1,2"), 2, "--threads 1,2: --stream takes one"),
        (("continual", "--seeds", "1,1"), 2, "--seeds 1,1"),
        (("continual", "--json", "none/streams.json"), 2, "no folder"),
        (("continual", "--methods", "ecotta-k4"), 69, "ecotta-k4.safetensors is missing"),
    ]:
        with subtests.test(arguments=arguments):
            found, out, err = run(capsys, *arguments, *SMALL)

            assert (found, out) == (code, "")
            assert err.startswith("ecotta-bench: error: ")
            assert message in err
