import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from ecotta_rt.cli.main import main
from ecotta_rt.cli.signals import stopped_by_signals
from ecotta_rt.machine import vitals
from ecotta_rt.machine.clock import ManualClock
from ecotta_rt.machine.device import load_device
from ecotta_rt.machine.vitals import Vitals
from ecotta_rt.state import AdaptState


def learned(path):
    """Batches that a saved state has learned from."""
    return AdaptState.load(path).parameters["w"].item()


def lines(text):
    return [json.loads(line) for line in text.splitlines()]


def run(*arguments):
    return main(["run", *map(str, arguments)])


def test_a_stream_becomes_json_lines_a_summary_and_a_state(runtime, bundle, replay, capsys):
    assert run(bundle, replay) == 0

    printed = capsys.readouterr()
    answers = lines(printed.out)
    assert [answer["frame"] for answer in answers] == list(range(20))
    assert answers[3]["label"] == "class-3"
    assert (answers[0]["truth"], answers[0]["correct"]) == ("class-7", False)
    assert "ecotta run: 20 frames, 0 dropped, 0 refused, 20 updates, mean latency" in printed.err
    assert "error 5.0 %" in printed.err
    assert learned(bundle.with_name("net.state.safetensors")) == 20


def test_the_next_run_goes_on_from_the_state_unless_told_otherwise(runtime, bundle, replay, capsys):
    state = bundle.with_name("net.state.safetensors")
    run(bundle, replay, "--limit", 3)

    run(bundle, replay, "--limit", 4)
    assert learned(state) == 7
    assert f"going on from {state} (--fresh starts anew)" in capsys.readouterr().err

    run(bundle, replay, "--limit", 5, "--no-state")
    assert learned(state) == 7

    run(bundle, replay, "--limit", 2, "--fresh")
    assert learned(state) == 2


def test_the_state_may_lie_elsewhere(runtime, bundle, replay, tmp_path):
    run(bundle, replay, "--state", tmp_path / "mine" / "s.safetensors")

    assert learned(tmp_path / "mine" / "s.safetensors") == 20
    assert not bundle.with_name("net.state.safetensors").exists()


def test_the_state_of_another_network_is_a_bad_input_file(runtime, bundle, replay, capsys):
    AdaptState({}, {}, {}, "cd" * 32).save(bundle.with_name("net.state.safetensors"))

    assert run(bundle, replay) == 4
    assert "--fresh" in capsys.readouterr().err


def test_without_adapting_nothing_is_learned_and_no_state_written(runtime, bundle, replay, capsys):
    assert run(bundle, replay, "--no-adapt") == 0

    assert {answer["why"] for answer in lines(capsys.readouterr().out)} == {"off"}
    assert runtime.loaded["adapt"] is False
    assert not bundle.with_name("net.state.safetensors").exists()


def test_options_reach_the_loop_and_the_runtime(runtime, bundle, replay, tmp_path, capsys):
    out = tmp_path / "out.jsonl"

    code = run(
        *(bundle, replay, "--out", out, "--adapt-every", 5, "--limit", 12),
        *("--device", "raspberry-pi-4-2gb", "--threads", 2, "--stretch"),
        *("--learning", "on", "--answer", "unfiltered", "--views", 2),
    )

    assert code == 0
    assert [answer["adapted"] for answer in lines(out.read_text())] == [*4 * [False], True] * 2 + 2 * [False]
    assert runtime.loaded == {
        "path": bundle,
        "device": "raspberry-pi-4-2gb",
        "adapt": True,
        "answer": "unfiltered",
        "views": 2,
        "threads": 2,
        "batch": None,
        "frame_by_frame": False,
        "fast": False,
        "memory_limit_bytes": load_device("raspberry-pi-4-2gb").default_limit_bytes,
    }
    assert capsys.readouterr().out == ""


def test_the_size_and_the_way_of_a_step_are_chosen(runtime, bundle, replay):
    assert run(bundle, replay, "--batch", 5, "--frame-by-frame", "--fast", "--limit", 1) == 0

    chosen = {name: runtime.loaded[name] for name in ("batch", "frame_by_frame", "fast")}
    assert chosen == {"batch": 5, "frame_by_frame": True, "fast": True}


def test_a_frame_that_cannot_be_used_is_a_line_and_not_the_end(runtime, bundle, tmp_path, capsys):
    folder = tmp_path / "pictures"
    folder.mkdir()
    np.save(folder / "1.npy", np.zeros((2, 2, 3), np.uint8))
    np.save(folder / "2.npy", np.full((2, 2, 3), np.nan))
    np.save(folder / "3.npy", np.zeros((5, 7, 3), np.uint8))

    assert run(bundle, folder) == 0

    first, second, third = lines(capsys.readouterr().out)
    assert (first["frame"], third["frame"]) == (0, 2)
    assert second["name"] == "2.npy"
    assert "float64" in second["refused"]


def test_where_every_frame_is_refused_the_lines_say_so_and_then_the_exit_code(runtime, bundle, tmp_path, capsys):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name in ("1.npy", "2.npy"):
        np.save(folder / name, np.full((2, 2, 3), np.nan))

    assert run(bundle, folder) == 4

    printed = capsys.readouterr()
    assert [line["name"] for line in lines(printed.out) if "refused" in line] == ["1.npy", "2.npy"]
    assert "error: no frame was answered: all 2 were refused, at last 2.npy: " in printed.err


def test_a_diverged_state_is_a_warning_and_the_last_good_one_stays(runtime, bundle, replay, monkeypatch, capsys):
    run(bundle, replay, "--limit", 3)
    monkeypatch.setenv("FAKE_DIVERGE", "2")

    assert run(bundle, replay, "--limit", 2) == 0

    assert "warning:" in capsys.readouterr().err
    assert learned(bundle.with_name("net.state.safetensors")) == 3


def test_options_that_cannot_be_meant_are_usage_errors(runtime, bundle, replay, capsys, subtests):
    for arguments, message in [
        (["--adapt-every", "0"], "--no-adapt never learns"),
        (["--limit", "0"], "limit 0"),
        (["--threads", "0"], "--threads 0"),
        (["--batch", "0"], "--batch 0: give 1 or more"),
        (["--save-every", "0"], "--save-every 0: give seconds above 0"),
        (["--save-every", "-1"], "--save-every -1: give seconds above 0"),
        (["--save-every", "nan"], "--save-every nan: give seconds above 0"),
        (["--limit", str(2**63)], "is out of range: give a number up to"),
        (["--threads", str(2**31)], "is out of range: give a number up to"),
        (["--state", ""], ". is a folder: name a file in it"),
        (["--state", "/dev/null"], "/dev/null is a character device"),
        (["--state", "same", "--out", "same"], "--out same is the file of the state"),
        (["--state", "BUNDLE"], "would replace the bundle"),
        (["--out", "BUNDLE"], "would replace the bundle"),
        (["--out", "no/such/folder/f"], "there is no folder"),
        (["--realtime"], "--realtime is for films"),
        (["--state", "x", "--no-state"], "not allowed with"),
        (["--adapt-every", "2", "--no-adapt"], "not allowed with"),
        (["--learning", "on", "--no-adapt"], "leave out one of the two"),
        (["--learning", "auto"], "invalid choice: 'auto'"),
        (["--memory-limit", "much"], "'much' is not a size"),
        (["--max-temperature", "353"], "ceiling of 353 degrees"),
        (["--guard", "off", "--max-temperature", "70"], "are for the guard"),
        (["--guard", "off", "--memory-limit", "1GiB"], "are for the guard"),
        (["--device", "abacus"], "unknown device 'abacus'"),
    ]:
        with subtests.test(arguments=arguments):
            before = bundle.read_text()

            assert run(bundle, replay, *(str(bundle) if word == "BUNDLE" else word for word in arguments)) == 2

            assert message in capsys.readouterr().err
            assert bundle.read_text() == before


def test_a_missing_bundle_and_a_missing_source_are_named(runtime, bundle, capsys):
    assert run("nowhere.ecotta", "pictures") == 4
    assert "nowhere.ecotta: no such file" in capsys.readouterr().err
    assert run(bundle, "nowhere") == 4
    assert "nowhere: no such file or folder" in capsys.readouterr().err


def guarded(monkeypatch, capsys, reading, *arguments):
    """The answers, the steps and what stderr says of a run that takes one reading."""
    monkeypatch.setattr("ecotta_rt.runtime.guard.SystemClock", ManualClock)  # on which no second reading falls due
    monkeypatch.setattr(vitals, "VitalsReader", lambda: lambda: reading)
    assert run(*arguments) == 0
    printed = capsys.readouterr()
    found = lines(printed.out)
    return [line for line in found if "label" in line], [line for line in found if "event" in line], printed.err


@pytest.mark.parametrize("options", [["--memory-limit", "190MiB"], ["--device", "raspberry-pi-zero-2w"]])
def test_above_the_limit_given_or_the_devices_it_answers_and_learns_no_more(
    runtime, bundle, replay, monkeypatch, capsys, options
):
    reading = Vitals(pss_bytes=195 * 2**20)

    answers, steps, told = guarded(monkeypatch, capsys, reading, bundle, replay, *options)

    assert [answer["frame"] for answer in answers] == list(range(20))
    assert {answer["why"] for answer in answers} == {"off"}
    assert (steps[0]["from"], steps[0]["to"], steps[0]["why"]) == ("full", "statistics", "limit")
    assert "ecotta run: guard: full -> statistics (limit: 195 of 19" in told
    assert "20 at statistics" in told


def test_above_the_temperature_given_it_learns_less_often(runtime, bundle, replay, monkeypatch, capsys):
    reading = Vitals(temperature_c=66.0)

    answers, steps, _ = guarded(monkeypatch, capsys, reading, bundle, replay, "--max-temperature", 65)

    assert [answer["frame"] for answer in answers if answer["adapted"]] == [3, 7, 11, 15, 19]
    assert [step["to"] for step in steps] == ["sparse"]


def test_the_guard_can_be_left_out(runtime, bundle, replay, monkeypatch, capsys):
    reading = Vitals(temperature_c=140.0, available_bytes=0)

    answers, steps, _ = guarded(monkeypatch, capsys, reading, bundle, replay, "--guard", "off")

    assert steps == []
    assert all(answer["adapted"] for answer in answers)


def test_a_run_with_an_impossible_limit_ends_before_its_first_frame(bundle, replay):
    code = "import sys; from ecotta_rt.cli.main import main; sys.exit(main())"

    done = subprocess.run(
        [sys.executable, "-c", code, "run", str(bundle), replay, "--memory-limit", "2MiB"],
        capture_output=True,
        text=True,
    )

    assert (done.returncode, done.stdout) == (3, "")
    assert "a limit of 2 MiB is below the" in done.stderr


def test_help_shows_sources_and_examples(capsys):
    assert run("--help") == 0

    printed = capsys.readouterr().out
    assert all(
        word in printed for word in ("examples:", "rtsp://", "replay:", "--save-every", "--memory-limit", "exit codes:")
    )


@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 0), ("SIGHUP", 0), ("SIGINT", 130)])
def test_a_signal_ends_the_run_after_the_batch_in_progress_with_the_state_saved(child, bundle, replay, name, code):
    done = child(bundle, replay, FAKE_SIGNAL=f"{name}:3")

    assert done.returncode == code, done.stderr
    assert [answer["frame"] for answer in lines(done.stdout)] == [0, 1, 2]
    assert learned(bundle.with_name("net.state.safetensors")) == 3
    assert done.stderr.splitlines()[1].startswith("ecotta run: 3 frames,")


def test_a_terminal_that_goes_tells_twice_and_ends_nothing_but_the_run():
    """The shell passes SIGHUP on, and when it ends the kernel sends it to its foreground jobs once more."""
    received, stopped = [], []

    with stopped_by_signals(lambda: stopped.append(True), received):
        os.kill(os.getpid(), signal.SIGHUP)
        os.kill(os.getpid(), signal.SIGHUP)

    assert (received, stopped) == ([signal.SIGHUP], [True])
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_DFL


def test_signals_do_again_what_they_did_before_when_the_run_is_over(runtime, bundle, replay):
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]

    run(bundle, replay)

    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)] == before


def test_answering_pictures_loads_neither_torch_nor_av(child, bundle, replay):
    code = child.code.replace("sys.exit(main())", "main(); print(*sys.modules, file=sys.stderr)")

    done = subprocess.run([sys.executable, "-c", code, "run", str(bundle), replay], capture_output=True, text=True)

    assert "ecotta_rt.runtime.loop" in done.stderr.split()
    assert not {"torch", "onnx", "av", "PIL", "rich", "ecotta_rt.bench", "ecotta_rt.prepare"} & set(done.stderr.split())
