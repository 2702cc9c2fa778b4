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

# Hangs where it says, from the first answer on; `late("...", function)` puts the function into the place of that name.
HANGING = """
import os, signal, sys, time
from importlib import import_module

def late(name, function):
    module, _, attribute = name.rpartition(":")
    holder = import_module(module)
    *path, last = attribute.split(".")
    for part in path:
        holder = getattr(holder, part)
    setattr(holder, last, function)

def hang(*_, **__):
    time.sleep(60)

{patches}
from ecotta_rt.cli.main import main
sys.exit(main(["serve", sys.argv[1]]))
"""

# Sends a signal when the command imports the first thing that it needs for its work.
EARLY = """
class Signals:
    def find_spec(self, name, path=None, target=None):
        if name == "ecotta_rt.daemon":
            sys.meta_path.remove(self)
            os.kill(os.getpid(), {number})

sys.meta_path.insert(0, Signals())
"""
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

    def start(path, program=("-m", "ecotta_rt", "serve"), **options):
        served.append(Served(path, program, **options))
        return served[-1]

    yield start
    for one in served:
        one.process.kill()
        one.process.wait()
        if one.process.stderr is not None:
            one.process.stderr.close()


class Served:
    """The command in a process; its answers are read from the file."""

    def __init__(self, path, program, stderr=subprocess.PIPE):
        self.lines_path = path.with_name("lines.jsonl")
        self.process = subprocess.Popen([sys.executable, *program, str(path)], stderr=stderr, text=True)

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


def program(*patches):
    return "-c", HANGING.format(patches="\n".join(patches))


def test_whatever_hangs_the_process_ends_within_five_seconds_of_the_signal(config, serve, tmp_path, tiny):
    """A disk, an output, a folder that is watched, the guard's look at the memory, and nobody reads what is said."""
    (tmp_path / "pictures").mkdir()
    watched = f'[[camera]]\nname = "yard"\nsource = "watch:{tmp_path}/pictures"\n'
    slow = '[[sink]]\nkind = "csv"\nfile = "/dev/null"\n'
    read, write = os.pipe()
    hanging = program(
        'late("ecotta_rt.daemon.saving.snapshots:Snapshots.write", hang)',
        'late("ecotta_rt.sinks.lines:LineStream.take", hang)',
        'late("ecotta_rt.sinks.lines:LineStream.close", hang)',
        'late("ecotta_rt.sources.watched_folder:WatchedFolder._pause", hang)',
        'late("ecotta_rt.runtime.ladder:Ladder.check_memory", hang)',
        'late("ecotta_rt.daemon.saving.states:OwnFolder.__exit__", hang)',
        "os.write(2, bytes(1 << 16))",
    )
    served = serve(config("door", more=watched + slow), hanging, stderr=write)
    served.wait_for(answer_of("door"))

    begun_s = time.monotonic()
    served.process.send_signal(signal.SIGTERM)
    code = served.process.wait(60)
    seconds = time.monotonic() - begun_s

    os.close(read)
    os.close(write)
    assert seconds < STOPS_S
    assert code == 74, "somebody should know that something was left behind"
    assert {line["camera"] for line in served.lines() if line.get("event") == "state-not-saved"} == {"door"}


def test_where_only_disk_and_output_hang_that_is_told_and_the_end_is_an_orderly_one(config, serve):
    slow = '[[sink]]\nkind = "csv"\nfile = "/dev/null"\n'
    hanging = program(
        'late("ecotta_rt.daemon.saving.snapshots:Snapshots.write", hang)',
        'late("ecotta_rt.sinks.lines:LineStream.take", hang)',
    )
    served = serve(config("door", more=slow), hanging)
    served.wait_for(answer_of("door"))

    code, seconds, said = served.end(signal.SIGTERM)

    assert (code, "Traceback" in said) == (0, False)
    assert seconds < STOPS_S
    assert "the disk was not done within" in said
    assert "csv: not done within 0.6 s of the end; left behind" in said


def test_where_the_loop_itself_hangs_it_is_left_behind_with_a_word(config, serve):
    said = 'lambda *_: (os.write(2, b"it hangs\\n"), hang())'
    served = serve(config("door"), program(f'late("ecotta_rt.daemon.work:Work.reload", {said})'))
    served.wait_for(answer_of("door"))
    served.process.send_signal(signal.SIGHUP)
    while served.process.stderr.readline() not in ("it hangs\n", ""):
        pass

    code, seconds, said = served.end(signal.SIGTERM)

    assert code == 74
    assert seconds < STOPS_S
    assert "something hangs, and is left behind" in said


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_at_the_very_first_ends_it_as_later_ones_do(config, serve, number):
    served = serve(config("door"), program(EARLY.format(number=int(number))))

    assert served.process.wait(30) == (130 if number == signal.SIGINT else 0)
    assert served.lines() == []


def test_a_sighup_at_the_very_first_is_obeyed_when_the_network_is_there(config, serve):
    served = serve(config("door"), program(EARLY.format(number=int(signal.SIGHUP))))
    served.wait_for(event("reloaded"), answer_of("door"))

    assert served.end(signal.SIGTERM)[0] == 0


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


def test_variables_come_from_the_file_beside_as_for_the_service(config, tmp_path, tiny, capsys, monkeypatch):
    import numpy as np

    for name in ("in-file", "in-environment"):
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / f"{name}.npy", tiny.frames(1)[0])
    path = config(more=f'[[camera]]\nname = "door"\nsource = "{tmp_path}/${{DOOR_FOLDER}}"\n')
    assert main(["serve", str(path)]) == 78
    path.with_suffix(".env").write_text("DOOR_FOLDER=in-file\n")
    assert main(["serve", str(path)]) == 0
    monkeypatch.setenv("DOOR_FOLDER", "in-environment")
    assert main(["serve", str(path)]) == 0

    answered = [json.loads(line) for line in (tmp_path / "lines.jsonl").read_text().splitlines()]
    assert [line["name"] for line in answered if "label" in line] == ["in-file.npy", "in-environment.npy"]


def test_a_package_that_a_camera_needs_is_warned_of(config, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "av", None)
    path = config(more='[[camera]]\nname = "door"\nsource = "/dev/no-such-camera"\nwait = false\n')

    assert main(["serve", str(path)]) == 69
    assert "warning: camera 'door': av is not installed" in capsys.readouterr().err


def test_a_fault_is_78_and_nothing_is_begun(config, tmp_path, capsys):
    path = config("door")
    path.write_text("config_version = 1\n[[camera]]\n", encoding="utf-8")
    assert main(["serve", str(path)]) == 78
    assert "bundle" in capsys.readouterr().err
    assert not (tmp_path / "state").exists()
