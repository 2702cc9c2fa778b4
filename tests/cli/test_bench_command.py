"""`ecotta-bench`, with a few lines of Python in place of the measured processes."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ecotta_rt.bench import exporting, measure, race
from ecotta_rt.bench.memory_cage import MemoryCage
from ecotta_rt.bench.results import BenchReport
from ecotta_rt.cli import bench
from ecotta_rt.data.corruptions import CORRUPTIONS
from ecotta_rt.errors import EXIT_INTERRUPTED, TransferError, Unavailable
from ecotta_rt.state import AdaptState

WORKER = """
import json, os, sys
from dataclasses import asdict
from ecotta_rt.bench.case import Case
from ecotta_rt.bench.recording import Recording
from ecotta_rt.bench.results import Row

job = Case.from_json(sys.stdin.readline())
recording = Recording(job.recording)
if job.method == "bn":
    sys.exit("no luck")
if job.method == "tent-episodic":
    alive = open(os.environ["ALIVE"], "w")  # held open until this process is gone
    print("up", file=alive, flush=True)
    sys.stdin.close()
    __import__("signal").pause()
print(json.dumps({"parameters": 7}))
print(json.dumps({"row": asdict(Row(
    job.method, "torch", job.batch, "batch", len(recording.labels), 25.0, {s.corruption: 25.0 for s in recording.spans},
    2**20, 2**21, 2**28, 2**28, 2**29, 3.0, 1.0, 11, {"threads": job.threads}))}))
"""

ONNX_WORKER = """
import json, pathlib, sys
from dataclasses import asdict
from ecotta_rt.bench.case import Case
from ecotta_rt.bench.results import Row

job = Case.from_json(sys.stdin.readline())
files = [pathlib.Path(file).name for file in (job.bundle, job.forward) if file]
print(json.dumps({"row": asdict(Row(
    job.method, job.engine, job.batch, job.normalisation, 4, 25.0, {"fog": 25.0},
    2**20, 2**21, 2**25, 2**26, 2**27, 3.0, 1.0, 11, {"files": " ".join(files), "fast": int(job.fast)}))}))
"""

# Makes what is missing: an empty file, so that nothing but its name tells what it is.
MAKER = """
import json, pathlib, sys
task = json.loads(sys.stdin.readline())
path = pathlib.Path(task["path"])
path.parent.mkdir(exist_ok=True)
path.touch()
"""

RACER = """
import json, os, sys
job = json.loads(sys.stdin.readline())
if job["method"] == "bn":
    sys.exit("no luck")
facts = {"normalisation": job["normalisation"], "session_options": {"threads": job["threads"]}}
print(json.dumps({"ready": facts}), flush=True)
for turn, line in enumerate(sys.stdin):
    order = json.loads(line)
    if job["method"] == "tent" and "ALIVE" in os.environ and job["threads"] == 2:
        alive = open(os.environ["ALIVE"], "w")
        print("up", file=alive, flush=True)
        sys.stdin.close()
        __import__("signal").pause()
    ms = {"source": 1.0, "tent": 8.0}.get(job["method"], 4.0)
    print(json.dumps({"step_ms": [ms] * order["steps"], "process_peak_bytes": 2**27}), flush=True)
"""

# What the console script does, with the stand-in, and with a look at what has been imported.
COMMAND = f"""
import sys
from ecotta_rt.bench import exporting, measure, race
from ecotta_rt.cli import bench
measure.WORKER = (sys.executable, "-c", {WORKER!r})
exporting._MAKER = (sys.executable, "-c", {MAKER!r})
race.WORKER = (sys.executable, "-c", {RACER!r})
code = bench.main(sys.argv[1:])
print(*sorted({{"torch", "matplotlib", "onnxruntime"}} & set(sys.modules)), file=sys.stderr)
sys.exit(code)
"""

SMALL = ("--memory", "--corruptions", "brightness,contrast", "--frames", "8", "--batch", "4", "--threads", "1")

DEVICES = ("--device", "raspberry-pi-zero-2w", "--device", "raspberry-pi-4-8gb")


@pytest.fixture
def assets(tmp_path, checkout, monkeypatch) -> Path:
    """The embedded images, and an empty file where a network should be."""
    folder = tmp_path / "assets"
    (folder / "networks").mkdir(parents=True)
    (folder / "data").symlink_to(checkout / "benchmarks" / "data")
    (folder / "networks" / "wrn-40-2-fashion-mnist.safetensors").touch()
    monkeypatch.setenv("ECOTTA_ASSETS", str(folder))
    monkeypatch.setenv("ECOTTA_CACHE", str(tmp_path / "cache"))
    return folder


@pytest.fixture
def stand_in(assets, monkeypatch) -> None:
    monkeypatch.setattr(measure, "WORKER", (sys.executable, "-c", WORKER))


def run_bench(capsys, *arguments):
    code = bench.main(arguments)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_bare_json_is_all_there_is_on_stdout(stand_in, capsys):
    code, out, err = run_bench(capsys, *SMALL, "--methods", "source,tent", *DEVICES, "--json")

    written = json.loads(out)
    assert code == 0
    assert [row["method"] for row in written["rows"]] == ["source", "tent"]
    assert written["rows"][0]["fits"] == {"raspberry-pi-zero-2w": False, "raspberry-pi-4-8gb": True}
    assert written["stream"] == {
        "name": "fashion-mnist-c",
        "frames": 8,
        "corruptions": ["brightness", "contrast"],
        "severity": 5,
        "order": "official",
        "seed": 0,
    }
    assert written["model"]["parameters"] == 7
    assert written["complete"] is True
    assert "2/2  tent  error 25.00 %" in err


def test_a_json_file_comes_beside_the_table(stand_in, capsys, tmp_path):
    code, out, _ = run_bench(capsys, *SMALL, "--methods", "tent", "--json", str(tmp_path / "result.json"))

    assert code == 0
    assert "\x1b" not in out
    assert json.loads((tmp_path / "result.json").read_text())["rows"][0]["method"] == "tent"
    assert "tent" in out


def test_a_json_file_that_cannot_be_written_does_not_cost_the_table(stand_in, capsys, monkeypatch, tmp_path):
    def full_disk(report, path):
        raise TransferError(f"{path} cannot be written: no space")

    monkeypatch.setattr(BenchReport, "write_json", full_disk)

    code, out, err = run_bench(capsys, *SMALL, "--methods", "tent", "--json", str(tmp_path / "result.json"))

    assert code == 74
    assert "25.00" in out
    assert "no space" in err


@pytest.fixture
def hungry_stand_in(assets, monkeypatch) -> None:
    """Bites off more than 64 MB for `tent`; skips where no control group may be made."""
    try:
        with MemoryCage(64_000_000):
            pass
    except Unavailable as error:
        pytest.skip(str(error))
    hungry = WORKER.replace('if job.method == "bn":', 'x = b"x" * (10**8 if job.method == "tent" else 1)\nif False:')
    monkeypatch.setattr(measure, "WORKER", (sys.executable, "-c", hungry))


@pytest.mark.usefixtures("hungry_stand_in")
def test_a_method_that_the_kernel_kills_at_the_limit_is_told_and_the_others_go_on(capsys, tmp_path):
    target = tmp_path / "result.json"
    options = ("--methods", "tent,source", "--enforce", "64MB", "--json", str(target))

    code, out, err = run_bench(capsys, *SMALL, *options)

    written = json.loads(target.read_text())
    assert code == 3
    assert [row["method"] for row in written["rows"]] == ["source"]
    assert (written["enforced"]["limit_bytes"], written["enforced"]["device"]) == (64_000_000, None)
    assert {method: record["oom_kills"] for method, record in written["enforced"]["held"].items()} == {
        "tent": 1,
        "source": 0,
    }
    assert "tent: no result: killed at 64 MB (61.0 MiB) by the kernel's out-of-memory killer" in out
    assert "enforced: 64 MB (61.0 MiB), by a control group without swap; killed: tent\n" in out
    assert "1/2  tent  no result" in err


def test_a_plot_is_drawn_when_asked_for(stand_in, capsys, tmp_path):
    code, _, _ = run_bench(capsys, *SMALL, "--methods", "source,tent", "--plot", str(tmp_path / "plot.svg"))

    assert code == 0
    assert (tmp_path / "plot.svg").read_text().startswith("<?xml")


def test_the_order_of_corruptions_is_drawn_from_the_seed(stand_in, capsys):
    options = ("--memory", "--frames", "2", "--batch", "2", "--methods", "tent", "--order", "shuffled", "--json")

    played = [json.loads(run_bench(capsys, *options, "--seed", seed)[1])["stream"]["corruptions"] for seed in "010"]

    assert played[0] == played[2] != played[1]
    assert sorted(played[0]) == sorted(CORRUPTIONS)


def test_a_method_that_fails_does_not_stop_the_others(stand_in, capsys, tmp_path):
    target = tmp_path / "result.json"

    code, out, _ = run_bench(capsys, *SMALL, "--methods", "bn,tent", "--json", str(target))

    written = json.loads(target.read_text())
    assert code == 1
    assert [row["method"] for row in written["rows"]] == ["tent"]
    assert written["failures"][0]["method"] == "bn"
    assert written["complete"] is False
    assert "bn: no result: its process ended with exit code 1" in out
    assert "no luck" in out


def test_a_mistake_is_one_line_and_an_exit_code(assets, capsys, monkeypatch, tmp_path, subtests):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.png").mkdir()

    for arguments, code, message in [
        (("--methods", "tnet"), 2, "did you mean tent?"),
        (("--corruptions", "fgo"), 2, "unknown corruption 'fgo'"),
        (("--model", "wrn-40-3"), 2, "did you mean wrn-40-2?"),
        (("--device", "raspberry-pi-9"), 2, "unknown device 'raspberry-pi-9'"),
        (("--plot", "plot.jpg"), 2, ".png or .svg"),
        (("--plot", "none/plot.png"), 2, "no folder"),
        (("--plot", "folder.png"), 2, "this is a folder"),
        (("--json", "none/result.json"), 2, "no folder"),
        (("--json", "."), 2, "this is a folder"),
        (("--engine", "tensorrt"), 2, "--engine 'tensorrt': known are torch, onnx"),
        (("--engine", "onnx", "--methods", "eata"), 2, "use --engine torch"),
        (("--engine", "onnx", "--methods", "ecotta-k4"), 69, "ecotta-k4.safetensors is missing"),
        (("--fast",), 2, "--fast is for --engine onnx"),
        (("--batch", "1,64"), 2, "--batch 1,64: --memory takes one"),
        (("--rounds", "3"), 2, "--rounds: only for --latency"),
        (("--enforce", "raspberry-pi-9"), 2, "unknown device 'raspberry-pi-9'"),
        (("--enforce", "512 MegaBytes"), 2, "'512 MegaBytes' is not a size"),
        (("--enforce", "1000000GB"), 69, "cannot be enforced"),
        (("--batch", "1", "--methods", "ecotta-k4"), 2, "--normalisation running"),
        (("--methods", "ecotta-k4"), 69, "ecotta-k4.safetensors is missing"),
        (("--data", "none"), 2, "no such folder"),
    ]:
        with subtests.test(arguments=arguments):
            found, out, err = run_bench(capsys, "--memory", *arguments)

            assert found == code
            assert out == ""
            assert err.startswith("ecotta-bench: error: ")
            assert err.count("\n") == 1
            assert message in err


def test_a_mistake_in_a_race_is_one_line_and_an_exit_code(assets, capsys, monkeypatch, tmp_path, subtests):
    monkeypatch.chdir(tmp_path)

    for arguments, code, message in [
        (("--methods", "tnet"), 2, "did you mean tent?"),
        (("--methods", "all"), 2, "would not end"),
        (("--batch", "64,64"), 2, "--batch 64,64: give one or more different numbers"),
        (("--batch", "60000"), 2, "test images"),
        (("--threads", "0"), 2, "--threads 0"),
        (("--rounds", "0"), 2, "--rounds 0"),
        (("--normalisation", "batches"), 2, "did you mean batch?"),
        (("--enforce", "512MB"), 2, "--enforce: only for --memory"),
        (("--frames", "8", "--fast"), 2, "--frames, --fast: only for --memory"),
        (("--methods", "ecotta-k4"), 69, "ecotta-k4.safetensors is missing"),
        (("--methods", "tent", "--bundle", "none.ecotta"), 4, "none.ecotta"),
        (("--json", "none/result.json"), 2, "no folder"),
    ]:
        with subtests.test(arguments=arguments):
            found, out, err = run_bench(capsys, "--latency", *arguments)

            assert (found, out) == (code, "")
            assert err.startswith("ecotta-bench: error: ")
            assert err.count("\n") == 1
            assert message in err


@pytest.fixture
def onnx_stand_in(assets, monkeypatch) -> None:
    AdaptState({}, {}, {}, "no network").save(assets / "networks" / "wrn-40-2-fashion-mnist.ecotta-k4.safetensors")
    monkeypatch.setattr(measure, "WORKER", (sys.executable, "-c", ONNX_WORKER))
    monkeypatch.setattr(exporting, "_MAKER", (sys.executable, "-c", MAKER))
    monkeypatch.setattr(race, "WORKER", (sys.executable, "-c", RACER))


def test_onnx_rows_come_from_graphs_that_are_made_where_they_are_missing(onnx_stand_in, capsys):
    options = ("--engine", "onnx", "--normalisation", "running", "--methods", "source,ecotta-k4", "--fast", "--json")

    code, out, err = run_bench(capsys, *SMALL, *options)

    source, step = json.loads(out)["rows"]
    assert code == 0
    assert source["session_options"]["files"].startswith("wrn-40-2-fashion-mnist.forward-4.")
    assert step["session_options"]["files"].startswith("wrn-40-2-fashion-mnist.ecotta-k4.running.")
    assert (step["engine"], step["normalisation"], step["session_options"]["fast"]) == ("onnx", "running", 1)
    assert err.count("making wrn-40-2-fashion-mnist") == 2


def test_a_graph_that_cannot_be_made_fails_its_method_alone(onnx_stand_in, capsys, monkeypatch):
    refusing = MAKER.replace("path.touch()", 'path.touch() if "forward" in path.name else sys.exit("no rule")')
    monkeypatch.setattr(exporting, "_MAKER", (sys.executable, "-c", refusing))
    options = ("--engine", "onnx", "--methods", "source,ecotta-k4", "--normalisation", "running", "--json")

    code, out, _ = run_bench(capsys, *SMALL, *options)

    written = json.loads(out)
    assert code == 1
    assert [row["method"] for row in written["rows"]] == ["source"]
    assert "no rule" in written["failures"][0]["message"]


RACE = ("--latency", "--batch", "2", "--threads", "1", "--rounds", "2", "--methods")


def test_a_race_writes_times_and_ratios(onnx_stand_in, capsys, tmp_path):
    target = tmp_path / "latency.json"
    options = (*RACE, "ecotta-k4,tent", "--normalisation", "running", "--json", str(target))

    code, out, err = run_bench(capsys, *options)

    written = json.loads(target.read_text())
    assert code == 0
    assert [(row["engine"], row["method"]) for row in written["rows"]] == [
        *(("onnx", "forward"), ("onnx", "ecotta-k4"), ("torch", "ecotta-k4"), ("torch", "tent"))
    ]
    step = written["rows"][1]
    assert step["ratio_to_forward"] == {"min": 4.0, "median": 4.0}
    assert step["ratio_to_tent"] == {"min": 0.5, "median": 0.5}
    assert written["complete"] is True
    assert "x forward" in out
    assert "\x1b" not in out
    assert "1/1  batch 2, 1 thread  4 contestants" in err


def test_a_contestant_that_dies_does_not_stop_the_race(onnx_stand_in, capsys):
    code, out, _ = run_bench(capsys, *RACE, "bn,tent", "--json")

    written = json.loads(out)
    assert code == 1
    assert [row["method"] for row in written["rows"]] == ["forward", "tent"]
    assert written["failures"][0]["method"] == "torch bn, batch 2, 1 thread"
    assert written["complete"] is False


def test_an_interrupted_race_reports_what_was_timed(assets, checkout, tmp_path):
    os.mkfifo(tmp_path / "alive")
    options = ("--latency", "--batch", "2", "--threads", "1,2", "--rounds", "2", "--methods", "tent", "--json")
    environment = {**os.environ, "ALIVE": str(tmp_path / "alive"), "TMPDIR": str(tmp_path)}
    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND, *options],
        cwd=checkout,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )

    with (tmp_path / "alive").open() as alive:  # opens when TENT has its turn in the second race
        assert alive.readline() == "up\n"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate()
        assert alive.read() == ""  # end of file: that process is gone

    written = json.loads(out)
    assert process.returncode == EXIT_INTERRUPTED
    assert [(row["threads"], row["method"]) for row in written["rows"]] == [(1, "forward"), (1, "tent"), (2, "forward")]
    assert written["complete"] is False
    assert "interrupted, races that were over: 1 of 2" in err
    assert err.splitlines()[-1] == ""  # nothing heavy was imported
    assert not list(tmp_path.glob("ecotta-bench-*"))


def test_what_to_measure_must_be_said(assets, capsys):
    code, _, err = run_bench(capsys)

    assert code == 2
    assert "--memory" in err


def test_a_missing_assets_folder_is_told(assets, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("ECOTTA_ASSETS", str(tmp_path / "none"))

    code, _, err = run_bench(capsys, "--memory")

    assert code == 69
    assert "clone the repository" in err


def test_help_names_every_method_and_corruption(capsys):
    code, out, _ = run_bench(capsys, "--help")

    assert code == 0
    for word in ("ecotta-k4-warmed", "tent-fine-tuned", *CORRUPTIONS, "Examples:"):
        assert word in out


def test_the_parent_never_imports_torch(assets, checkout):
    command = [sys.executable, "-c", COMMAND, *SMALL, "--methods", "source,tent"]

    done = subprocess.run(command, cwd=checkout, capture_output=True, text=True)

    assert done.returncode == 0
    assert done.stderr.splitlines()[-1] == ""


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_reports_what_is_done_and_ends_the_measured_process(assets, checkout, tmp_path, ending):
    os.mkfifo(tmp_path / "alive")
    target = tmp_path / "result.json"
    command = [sys.executable, "-c", COMMAND, *SMALL, "--methods", "tent,tent-episodic", "--json", str(target)]
    environment = {**os.environ, "ALIVE": str(tmp_path / "alive"), "TMPDIR": str(tmp_path)}
    bench_process = subprocess.Popen(
        command, cwd=checkout, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )

    with (tmp_path / "alive").open() as alive:  # opens when the second method's process does
        assert alive.readline() == "up\n"
        bench_process.send_signal(ending)
        out, err = bench_process.communicate()
        assert alive.read() == ""  # end of file: that process is gone

    assert bench_process.returncode == EXIT_INTERRUPTED
    assert "tent" in out
    assert "interrupted" in err
    written = json.loads(target.read_text())
    assert [row["method"] for row in written["rows"]] == ["tent"]
    assert written["complete"] is False
    assert not list(tmp_path.glob("ecotta-bench-*"))
