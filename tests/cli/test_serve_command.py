"""`ecotta serve` as a process: signals, exit codes, what it leaves behind."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest

from ecotta_rt.cli.main import main

STOPS_S = 5.0
CAMERA = '[[camera]]\nname = "{name}"\nsource = "synthetic:{name}?fps=100"\n'


def answer_of(camera):
    return lambda line: "label" in line and line["camera"] == camera


def event(name, **fields):
    return lambda line: line.get("event") == name and fields.items() <= line.items()


@pytest.fixture
def config(tmp_path, tiny):
    """Writes a configuration with these cameras and more lines."""
    path = tmp_path / "door.toml"

    def write(*cameras, more=""):
        head = f'config_version = 1\n[network]\nbundle = "{tiny.bundle("running")}"\n'
        state = f'[state]\nfolder = "{tmp_path}/state"\n'
        sink = f'[[sink]]\nkind = "json-lines"\nfile = "{tmp_path}/lines.jsonl"\n'
        text = head + state + "".join(CAMERA.format(name=name) for name in cameras) + more + sink
        path.with_suffix(".new").write_text(text, encoding="utf-8")
        os.replace(path.with_suffix(".new"), path)
        return path

    return write


@pytest.fixture
def serve():
    """Starts the command; what is left of it is killed."""
    served = []

    def start(path):
        served.append(Served(path))
        return served[-1]

    yield start
    for one in served:
        one.process.kill()
        one.process.wait()
        one.process.stderr.close()


class Served:
    """The command in a process; its answers are read from the file."""

    def __init__(self, path):
        self.lines_path = path.with_name("lines.jsonl")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "ecotta_rt", "serve", str(path)], stderr=subprocess.PIPE, text=True
        )

    def lines(self):
        text = self.lines_path.read_text(encoding="utf-8") if self.lines_path.exists() else ""
        return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]

    def wait_for(self, *wanted):
        """Until there is a line that each of these is true of."""
        until_s = time.monotonic() + 60
        while not all(any(map(one, self.lines())) for one in wanted):
            assert self.process.poll() is None, self.process.stderr.read()
            assert time.monotonic() < until_s, self.lines()[-5:]
            time.sleep(0.02)

    def end(self, number):
        begun_s = time.monotonic()
        self.process.send_signal(number)
        _, said = self.process.communicate(timeout=30)
        return self.process.returncode, time.monotonic() - begun_s, said


def test_sigterm_ends_it_within_five_seconds_with_all_states_saved(config, serve, tmp_path):
    served = serve(config("door", "yard"))
    served.wait_for(answer_of("door"), answer_of("yard"))

    code, seconds, said = served.end(signal.SIGTERM)

    assert (code, "Traceback" in said) == (0, False)
    assert seconds < STOPS_S
    lines = served.lines()
    ended = {line["camera"]: line["why"] for line in lines if line.get("event") == "ended"}
    assert ended == {"door": "stopped", "yard": "stopped"}
    assert {line["camera"] for line in lines if line.get("event") == "state-saved"} == {"door", "yard"}
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["time"]) for line in lines)
    assert len([*tmp_path.glob("state/*/*.safetensors")]) == 2


def test_sighup_reads_the_configuration_again_and_one_that_is_wrong_changes_nothing(config, serve, tmp_path):
    path = config("door")
    served = serve(path)
    served.wait_for(answer_of("door"))
    path.write_text("config_version = 1\n[network]\nbundel = 1\n", encoding="utf-8")
    served.process.send_signal(signal.SIGHUP)
    served.wait_for(event("reloaded"))
    assert "unknown field" in next(line["why"] for line in served.lines() if line.get("event") == "reloaded")
    config("door", "yard")
    (tmp_path / "lines.jsonl").rename(tmp_path / "lines.jsonl.old")
    served.process.send_signal(signal.SIGHUP)
    served.wait_for(event("reloaded", changed=["camera yard is new"]), answer_of("yard"))

    assert served.end(signal.SIGTERM)[0] == 0
    assert (tmp_path / "lines.jsonl.old").exists(), "the file that was moved is left alone"


def test_a_camera_that_hangs_in_a_read_does_not_hold_the_end_and_ctrl_c_is_130(config, serve):
    hanging = '[[camera]]\nname = "yard"\nsource = "synthetic:yard?fps=100&hang=2"\n'
    served = serve(config("door", more=hanging))
    served.wait_for(answer_of("door"), answer_of("yard"))

    code, seconds, _ = served.end(signal.SIGINT)

    assert code == 130
    assert seconds < STOPS_S


def test_a_signal_that_comes_before_the_network_is_loaded_ends_it_at_once(config, monkeypatch):
    def load(options, say):
        os.kill(os.getpid(), signal.SIGTERM)
        raise AssertionError("a handler in Python has run by now")

    monkeypatch.setattr("ecotta_rt.daemon.daemon.load_network", load)

    assert main(["serve", str(config("door"))]) == 0
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_where_no_camera_is_left_it_ends_by_itself(config, serve, tmp_path, tiny):
    import numpy as np

    (tmp_path / "pictures").mkdir()
    np.save(tmp_path / "pictures" / "0.npy", tiny.frames(1)[0])
    path = config(more=f'[[camera]]\nname = "door"\nsource = "{tmp_path}/pictures"\n')
    served = serve(path)

    assert served.process.wait(60) == 0
    assert [line["frame"] for line in served.lines() if "label" in line] == [0]


def test_check_starts_nothing_and_a_fault_is_78(config, tmp_path, capsys):
    path = config("door")

    assert main(["serve", str(path), "--check"]) == 0
    assert capsys.readouterr().out == f"{path}: 1 cameras, 1 outputs, nothing wrong with it\n"
    path.write_text("config_version = 1\n[[camera]]\n", encoding="utf-8")
    assert main(["serve", str(path)]) == 78
    assert "bundle" in capsys.readouterr().err
    assert not (tmp_path / "state").exists()
